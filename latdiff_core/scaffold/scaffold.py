"""``latdiff new-plugin``: a small package with one working component, made from the files in ``templates``.

A template is the file itself with ``.txt`` at its end and ``$name`` where the plugin's own names belong.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from latdiff_core.errors import ConfigError, OutputExistsError, PluginError, known
from latdiff_core.interfaces import INTERFACES
from latdiff_core.registry import current_registry

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
TEMPLATES = files("latdiff_core.scaffold") / "templates"
STAGE_1 = ("encoder", "decoder")


@dataclass(frozen=True)
class Plugin:
    """The names in a plugin with one component.

    Attributes
    ----------
    name
        Of the distribution, e.g. latdiff-example.
    interface
        That the component implements, e.g. decoder.
    """

    name: str
    interface: str

    @property
    def module(self) -> str:
        """What is imported, e.g. latdiff_example."""
        return self.name.replace("-", "_")

    @property
    def kind(self) -> str:
        """What configs call the component, and its file, e.g. example."""
        return self.module.removeprefix("latdiff_")

    @property
    def component(self) -> str:
        """The component's class, e.g. ExampleDecoder."""
        noun = self.interface.capitalize()
        words = "".join(word.capitalize() for word in self.kind.split("_"))
        return (words.removesuffix(noun) or "My") + noun

    @property
    def field(self) -> str:
        """Where a config asks for the component, e.g. autoencoder.decoder."""
        return f"{'autoencoder' if self.interface in STAGE_1 else 'diffusion'}.{self.interface}"

    def files(self) -> dict[str, str]:
        """The text of every file by its path in the package's folder."""
        return {
            "pyproject.toml": self._fill("pyproject.toml"),
            "README.md": self._fill("README.md"),
            f"{self.module}/__init__.py": self._fill("package/__init__.py"),
            f"{self.module}/plugin.py": self._fill("package/plugin.py"),
            f"{self.module}/{self.kind}.py": self._fill(f"package/{self.interface}.py"),
            f"{self.module}/py.typed": "",
            f"tests/test_{self.kind}.py": self._fill(f"tests/{self.interface}.py"),
        }

    def _fill(self, template: str) -> str:
        names = {name: getattr(self, name) for name in ("name", "interface", "module", "kind", "component", "field")}
        return Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(names)


def write_plugin(plugin: Plugin, folder: Path) -> None:
    """Write the package into a new folder, whole or not at all.

    Raises
    ------
    ConfigError
        If there is no such interface.
    PluginError
        If the name cannot name a package, or its module or its kind is somebody else's.
    OutputExistsError
        If the folder exists.
    """
    _check_names(plugin)
    if folder.exists():
        raise OutputExistsError(f"{folder} exists; choose another name, or another folder with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        written = Path(temporary) / folder.name
        for path, text in plugin.files().items():
            (written / path).parent.mkdir(parents=True, exist_ok=True)
            (written / path).write_text(text, encoding="utf-8")
        written.rename(folder)


def _check_names(plugin: Plugin) -> None:
    interfaces = [config.interface for config in INTERFACES]
    if plugin.interface not in interfaces:
        raise ConfigError(f"no part of a model is called {plugin.interface!r}; {known(interfaces, plugin.interface)}")
    names = (plugin.module, plugin.kind)
    if not NAME.fullmatch(plugin.name) or not all(name.isidentifier() for name in names):
        raise PluginError(
            f"{plugin.name!r} cannot name a plugin: give lower-case words with hyphens between, e.g. latdiff-example"
        )
    if any(keyword.iskeyword(name) for name in names) or plugin.kind == "plugin":
        raise PluginError(f"{plugin.name!r} cannot name a plugin: {plugin.kind!r} is taken; choose another name")
    if find_spec(plugin.module) is not None:
        raise PluginError(f"{plugin.module!r} can be imported already, it is somebody else's; choose another name")
    if plugin.kind in current_registry().kinds(plugin.interface):
        owner = current_registry().owner(plugin.interface, plugin.kind)
        raise PluginError(f"{owner} has a {plugin.interface} {plugin.kind!r} already; choose another name")
