"""What is installed: every component kind and every recipe, collected from plugins through pluggy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any, get_args

import pluggy
from pydantic.errors import PydanticInvalidForJsonSchema

from latdiff_core import hookspecs
from latdiff_core.errors import ConfigError, PluginError, known
from latdiff_core.interfaces import INTERFACES, ComponentConfig

__all__ = [
    "PluginReport",
    "Registry",
    "current_registry",
    "installed",
    "use_registry",
]

ENTRY_POINT_GROUP = "latdiff"
STANDARD = frozenset(
    {"latdiff-counts", "latdiff-denoisers", "latdiff-processes", "latdiff-conditioning", "latdiff-standard"}
)
"""Distributions that are loaded first, so that no other can take a kind away from them by its name."""


@dataclass(frozen=True)
class PluginReport:
    """One plugin as it was found: what it brought, or why it was left out."""

    name: str
    distribution: str
    version: str
    kinds: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class Registry:
    """Component configs by (interface, kind), and recipes by name.

    Plugins are registered one by one: one that fails is reported in ``plugins`` and left out, and the
    others work. Two plugins that claim the same name are an error naming both.
    """

    plugins: list[PluginReport] = field(init=False, default_factory=list)
    _components: dict[tuple[str, str], type[ComponentConfig]] = field(init=False, default_factory=dict)
    _recipes: dict[str, Mapping[str, Any]] = field(init=False, default_factory=dict)
    _owners: dict[tuple[str, str], str] = field(init=False, default_factory=dict)

    def register(self, plugin: object, name: str, distribution: str = "", version: str = "") -> None:
        """Add one plugin: any object with hook implementations.

        Raises
        ------
        PluginError
            If the plugin misspells a hook, returns something else than its hooks ask for, or claims a
            name that another plugin has.
        """
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"plugin {name!r} implements a hook that does not exist: {error}") from error
        components = [c for answer in manager.hook.latdiff_components() for c in _sequence(answer, name)]
        recipes = {key: r for answer in manager.hook.latdiff_recipes() for key, r in _recipes(answer, name).items()}
        claims: dict[tuple[str, str], Any] = {}
        for component in components:
            _check_component(component, name)
            claims[component.interface, component.kind_name()] = component
        claims |= {("recipe", key): recipe for key, recipe in recipes.items()}
        if len(claims) < len(components) + len(recipes):
            raise PluginError(f"plugin {name!r} declares the same kind twice")
        owner = distribution or name
        for what, kind in claims:
            if (what, kind) in self._owners:
                other = self._owners[what, kind]
                raise PluginError(f"the {what} {kind!r} is declared by both {other} and {owner}; uninstall one of them")
        self._owners |= dict.fromkeys(claims, owner)
        self._components |= {(c.interface, c.kind_name()): c for c in components}
        self._recipes |= recipes
        kinds = tuple(f"{c.interface}: {c.kind_name()}" for c in components)
        self.plugins.append(PluginReport(name, distribution, version, kinds, tuple(recipes)))

    def load(self, entries: Iterable[EntryPoint]) -> None:
        """Import and register plugins from entry points; a failing one is reported by name and skipped.

        Of two that claim the same kind, the one that is loaded later fails: the standard distributions come first, the
        others in alphabetical order.
        """
        for entry in sorted(entries, key=lambda e: (_distribution(e) not in STANDARD, e.name)):
            distribution = _distribution(entry)
            version = entry.dist.version if entry.dist else ""
            try:
                self.register(entry.load(), entry.name, distribution, version)
            except (Exception, SystemExit) as error:
                message = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
                self.plugins.append(PluginReport(entry.name, distribution, version, error=message))

    def kinds(self, interface: str) -> list[str]:
        """The kinds that exist for an interface, in alphabetical order."""
        return sorted(kind for name, kind in self._components if name == interface)

    def get(self, interface: str, kind: str) -> type[ComponentConfig]:
        """The config class of one kind.

        Raises
        ------
        ConfigError
            If the kind does not exist; the message lists those that do.
        """
        try:
            return self._components[interface, kind]
        except KeyError:
            hint = known(self.kinds(interface), kind)
            broken = [p.name for p in self.plugins if p.error]
            more = f" (plugins that failed to load: {', '.join(broken)})" if broken else ""
            raise ConfigError(f"no {interface} is called {kind!r}; {hint}{more}") from None

    def owner(self, interface: str, kind: str) -> str:
        """The distribution that brought a kind; an unknown kind is a ConfigError."""
        self.get(interface, kind)
        return self._owners[interface, kind]

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """The named configs that exist."""
        return dict(sorted(self._recipes.items()))

    def recipe(self, name: str) -> Mapping[str, Any]:
        """One named config; an unknown name is a ConfigError that lists the known ones."""
        if name not in self._recipes:
            raise ConfigError(f"no recipe is called {name!r}; {known(self.recipes, name)}")
        return self._recipes[name]


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else ""


def _sequence(answer: Any, plugin: str) -> Sequence[Any]:
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise PluginError(f"plugin {plugin!r} returned {answer!r} from latdiff_components; it must return a list")
    return answer


def _recipes(answer: Any, plugin: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(answer, Mapping) or not all(
        isinstance(key, str) and isinstance(recipe, Mapping) for key, recipe in answer.items()
    ):
        raise PluginError(
            f"plugin {plugin!r} returned {answer!r} from latdiff_recipes; it must return a mapping of names to configs"
        )
    return answer


def _check_component(component: object, plugin: str) -> None:
    if not (isinstance(component, type) and issubclass(component, INTERFACES)):
        raise PluginError(
            f"plugin {plugin!r} returned {component!r} from latdiff_components; "
            f"it must return subclasses of {', '.join(c.__name__ for c in INTERFACES)}"
        )
    if isabstract(component):
        raise PluginError(f"plugin {plugin!r} returned {component.__name__}, which does not implement build()")
    if get_args(component.model_fields["kind"].annotation) != (component.kind_name(),):
        raise PluginError(
            f"plugin {plugin!r} returned {component.__name__}, whose kind is not written as "
            f'kind: Literal["{component.kind_name()}"] = "{component.kind_name()}"'
        )
    try:
        component.model_json_schema()  # `latdiff schema` is made of all of them: one that fails would fail it for all
    except PydanticInvalidForJsonSchema as error:
        raise PluginError(
            f"plugin {plugin!r} returned {component.__name__}, a field of which cannot be written in YAML: {error}"
        ) from error


@cache
def installed() -> Registry:
    """The registry of everything installed in this environment, loaded at the first call."""
    registry = Registry()
    registry.load(entry_points(group=ENTRY_POINT_GROUP))
    return registry


_override: ContextVar[Registry | None] = ContextVar("latdiff_registry", default=None)


def current_registry() -> Registry:
    """The registry that configs are resolved with: what is installed, unless ``use_registry`` says otherwise."""
    return _override.get() or installed()


@contextmanager
def use_registry(registry: Registry) -> Iterator[Registry]:
    """Resolve configs with another registry inside the block; for tests and for isolated environments."""
    token = _override.set(registry)
    try:
        yield registry
    finally:
        _override.reset(token)
