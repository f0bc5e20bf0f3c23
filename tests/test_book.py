"""The book says what is, links to what exists, and builds without a warning."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.main import get_command

from latdiff_core.cli.app import app
from latdiff_core.configs import load_config
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.registry import installed

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PAGES = sorted([*BOOK.glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md")])
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
COMMANDS = get_command(app).commands


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BOOK)
        yield import_module("make_reference")


@pytest.fixture(scope="module")
def configs(reference: ModuleType) -> ModuleType:
    return import_module("config_reference")


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    return reference.pages()


def test_every_page_is_in_the_table_of_contents(pages):
    toc = set(re.findall(r"(?:file|root): book/(\S+)", (BOOK / "_toc.yml").read_text()))
    assert toc == {path.stem for path in BOOK.glob("*.md")} | {f"reference/{name}" for name in pages}


def test_every_field_of_every_config_is_in_the_reference_with_a_description(configs, pages):
    kinds = [installed().get(base.interface, kind) for base in INTERFACES for kind in installed().kinds(base.interface)]
    sections = [config for _, config in configs.sections(configs.ModelConfig)]
    for config in (*kinds, *sections):
        assert inspect.getdoc(config)
        table = "\n".join(configs.config_table(config))
        _, told = pages["configs"].split(f"({configs.label(config)})=\n")
        assert table in told.split("\n(")[0]
        for name, info in config.model_fields.items():
            assert name == "kind" or (info.description and f"| `{name}` |" in table), f"{config.__name__}.{name}"


def test_every_kind_and_hook_has_its_place_in_the_reference(reference, pages):
    for base in INTERFACES:
        for kind in installed().kinds(base.interface):
            assert f"({base.interface}-{kind})=\n### `{kind}`" in pages["configs"]
    hooks = reference.hooks()
    assert [name for name, _ in hooks] == ["latdiff_components", "latdiff_recipes"]
    for _, hook in hooks:
        assert reference.as_markdown(hook) in pages["hooks"]


def test_every_public_name_is_in_the_reference_with_a_docstring(reference, pages):
    for package in reference.PACKAGES:
        module, constants = import_module(package), reference.constant_docs(package)
        for name in module.__all__:
            text = constants.get(name) or getattr(module, name).__doc__ or ""
            assert text.strip(), f"{package}.{name} has no docstring"
            assert not text.startswith(f"{name}("), f"{package}.{name} has only the docstring that dataclasses make"
            assert f"| {{py:obj}}`{name} <" in pages[package], f"{package}.{name}"


def test_links_of_the_reference_lead_to_where_a_name_is_told(pages):
    for page in pages.values():
        for package, name in re.findall(r"<([\w.]*)\.(\w+)>`", page):
            assert re.search(
                rf"^\.\. (autoclass|autofunction|py:class|py:data):: {name}$", pages[package], re.MULTILINE
            )


def test_everything_with_public_names_is_in_the_reference(reference):
    places = [
        *ROOT.glob("plugins/*/*/__init__.py"),
        *ROOT.glob("latdiff_core/*/__init__.py"),
        *ROOT.glob("latdiff_core/*.py"),
    ]
    public = [path.parent if path.stem == "__init__" else path for path in places if "__all__ = [" in path.read_text()]
    names = {".".join(path.with_suffix("").relative_to(_home(path)).parts) for path in public}
    assert names == set(reference.PACKAGES)


def _home(path: Path) -> Path:
    """The folder from which a package or module is imported."""
    return path.parent if "plugins" in path.parts else ROOT


def test_every_command_and_option_is_in_the_reference(pages):
    for name, command in COMMANDS.items():
        told = pages["commands"].split(f"## latdiff {name}\n")[1].split("\n## ")[0]
        assert command.help
        for parameter in command.params:
            assert parameter.help, f"latdiff {name} does not say what {parameter.name} is"
            assert f"| `{', '.join(parameter.opts)}" in told or parameter.param_type_name == "argument"


def test_the_founding_page_names_classes_and_tests_that_exist():
    text = (BOOK / "founding.md").read_text()
    sources = [path for folder in ("tests", "plugins", "latdiff_core") for path in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    tests, files = set(re.findall(r"def (test_\w+)", code)), {path.name for path in sources}
    for name in re.findall(r"`(test_\w+(?:\.py)?)`", text):
        assert name in tests | files
    for name in re.findall(r"`([A-Z]\w+)`", text):
        assert re.search(rf"^class {name}\b", code, re.MULTILINE), name
    assert [f"| {letter}{n} |" in text for letter, last in (("A", 10), ("B", 31)) for n in range(1, last + 1)] == [
        True
    ] * 41


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path, pages):
    made = {BOOK / "reference" / f"{name}.md": text for name, text in pages.items()}
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", _prose(path), flags=re.DOTALL)
    for link in re.findall(r"\]\(\s*([^)\s]+)[^)]*\)", prose):
        file, _, heading = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not re.match(r"\w+:", link):
            assert target in made or target.exists(), link
            assert not heading or heading in _anchors(made.get(target) or _prose(target)), link


def _prose(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n\n".join(
        "".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown"
    )


def _anchors(text: str) -> list[str]:
    """Labels, and headings as GitHub and MyST write them in links."""
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return [heading.replace(" ", "-") for heading in headings] + re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE)


def _blocks(text: str, *languages: str) -> list[str]:
    """Fences are paired from the top: the end of one block is not the start of another."""
    fenced = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for language, code in fenced if language in languages]


def _commands(text: str) -> list[str]:
    """What is typed after `latdiff`, in blocks and within prose."""
    lines = "\n".join(_blocks(text, "bash", "")).replace("\\\n", " ").splitlines()
    typed = [line.strip() for line in [*lines, *re.findall(r"(?<!`)`(latdiff [^`]+)`", text)]]
    return [line.removeprefix("latdiff ") for line in typed if line.startswith("latdiff ")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_configs_that_are_shown_exist(path):
    for shown in _commands(path.read_text()):
        name, *words = shlex.split(shown, comments=True)
        assert name in COMMANDS, f"latdiff {shown}"
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, f"latdiff {shown}"
    for block in _blocks(path.read_text(), "yaml"):
        assert isinstance(load_config(yaml.safe_load(block)), Config)


def test_commands_are_found_in_every_form():
    text = "```yaml\na: 1\n```\nsee `latdiff check x.yaml`\n```bash\nlatdiff fit a \\\n  --out b  # why\n```\n"
    assert [shlex.split(line, comments=True) for line in _commands(text)] == [
        ["fit", "a", "--out", "b"],
        ["check", "x.yaml"],
    ]


def test_files_that_the_design_names_exist():
    text = (ROOT / "book" / "design.md").read_text()
    named = re.findall(r"`((?:latdiff_core|plugins|benchmarks|tests)/[\w/.-]+)`", text)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_python_on_the_pages_runs():
    """The README's has tests of its own, in test_readme.py."""
    for path in PAGES:
        for block in _blocks(path.read_text(), "python") if path != ROOT / "README.md" else []:
            exec(compile(block, str(path), "exec", dont_inherit=True), {})


NO_BOOK = importlib.util.find_spec("jupyter_book") is None


@pytest.mark.skipif(NO_BOOK, reason="jupyter-book is not installed; requirements-test.txt has it")
def test_the_book_builds_without_a_warning(tmp_path, pages):
    """Notebooks are not executed here; they are by themselves. What an earlier build has kept of them is no page."""
    for name in ("book", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("_build", "reference"))
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    (tmp_path / "book" / "reference").mkdir()
    for name, text in pages.items():
        (tmp_path / "book" / "reference" / f"{name}.md").write_text(text)
    kept = tmp_path / "book" / "_build" / ".jupyter_cache" / "executed" / "1"
    kept.mkdir(parents=True)
    shutil.copy(NOTEBOOKS[0], kept / "base.ipynb")
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    (tmp_path / "book" / "_config.yml").write_text(yaml.safe_dump(config))
    paths = ["--config", "book/_config.yml", "--toc", "book/_toc.yml", "--path-output", "book"]
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", ".", *paths, "-W", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, re.findall(r".*(?:WARNING|ERROR).*", done.stderr + done.stdout)
    html = tmp_path / "book" / "_build" / "html"
    assert "latdiff" in (html / "book" / "index.html").read_text()
    for page in html.rglob("*.html"):  # nothing is fetched when a page is opened
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+', page.read_text()) == [], page
