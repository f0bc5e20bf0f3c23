"""Plugins: what they may bring, and what happens when one is broken."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from latdiff_core.configs import recipe_config
from latdiff_core.errors import ConfigError, PluginError
from latdiff_core.registry import Registry, current_registry, installed, use_registry

GOOD = '''
from typing import Literal
from latdiff_core import hookimpl
from latdiff_core.interfaces import Sampler, SamplerConfig


class MadeUpConfig(SamplerConfig):
    """A made-up sampler."""

    kind: Literal["{kind}"] = "{kind}"

    def build(self) -> Sampler:
        raise NotImplementedError


@hookimpl
def latdiff_components():
    return [MadeUpConfig]


@hookimpl
def latdiff_recipes():
    return {{"{kind}_recipe": {{"description": "A made-up recipe."}}}}
'''
HOOKS = "from latdiff_core import hookimpl, interfaces\n"
BROKEN = {
    "fails on import": ("import a_package_that_is_not_there", "a_package_that_is_not_there"),
    "has a syntax error": ("def", "SyntaxError"),
    "fails in its hook": (HOOKS + "@hookimpl\ndef latdiff_components():\n    raise KeyError('inner')", "inner"),
    "misspells a hook": (HOOKS + "@hookimpl\ndef latdiff_component():\n    return []", "latdiff_component"),
    "returns a number": (HOOKS + "@hookimpl\ndef latdiff_components():\n    return 3", "3"),
    "returns no config class": (HOOKS + "@hookimpl\ndef latdiff_components():\n    return ['mlp']", "'mlp'"),
    "returns an abstract class": (
        HOOKS + "@hookimpl\ndef latdiff_components():\n    return [interfaces.EncoderConfig]", "EncoderConfig",
    ),
    "returns recipes as a list": (HOOKS + "@hookimpl\ndef latdiff_recipes():\n    return ['odd']", "odd"),
    "has a recipe that is no mapping": (HOOKS + "@hookimpl\ndef latdiff_recipes():\n    return {'odd': 3}", "odd"),
    "has a field that YAML cannot hold": (
        "from collections.abc import Callable\n"
        + GOOD.format(kind="own").replace("    def build", "    hook: Callable[[int], int]\n\n    def build"),
        "cannot be written in YAML",
    ),
    "has a recipe without a name": (HOOKS + "@hookimpl\ndef latdiff_recipes():\n    return {1: {}}", "1"),
    "has a kind that is any text": (
        GOOD.format(kind="own").replace('kind: Literal["own"]', "kind: str"), 'kind: Literal["own"] = "own"',
    ),
    "has a hook with another argument": (
        HOOKS + "@hookimpl\ndef latdiff_components(more):\n    return []", "more",
    ),
    "declares a kind twice": (GOOD.format(kind="own").replace("[MadeUpConfig]", "[MadeUpConfig] * 2"), "twice"),
    "claims a kind of another": (GOOD.format(kind="first"), "'first'"),
    "claims a recipe of another": (
        HOOKS + "@hookimpl\ndef latdiff_recipes():\n    return {'first_recipe': {}}", "'first_recipe'",
    ),
}  # fmt: skip


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes an importable plugin module and returns its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(name: str, source: str) -> EntryPoint:
        module = f"made_up_plugin_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
        written.append(module)
        return EntryPoint(name, module, "latdiff")

    yield write
    for module in written:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_reported_by_name_and_the_others_work(plugin, fault):
    source, named = BROKEN[fault]
    entries = [plugin("a", GOOD.format(kind="first")), plugin("b", source), plugin("c", GOOD.format(kind="last"))]
    registry = Registry()
    registry.load(entries)
    reports = {report.name: report for report in registry.plugins}
    assert reports["b"].error is not None
    assert named in reports["b"].error
    assert reports["b"].kinds == reports["b"].recipes == ()
    assert reports["a"].error is None
    assert reports["c"].error is None
    assert registry.kinds("sampler") == ["first", "last"]
    assert list(registry.recipes) == ["first_recipe", "last_recipe"]
    assert registry.owner("sampler", "first") == "a"


@pytest.mark.parametrize("fault", [f for f in BROKEN if f not in ("fails on import", "has a syntax error")])
def test_registering_a_broken_plugin_by_hand_fails_and_adds_nothing(plugin, fault):
    registry = Registry()
    registry.register(plugin("a", GOOD.format(kind="first")).load(), "a")
    kind_of_error = KeyError if fault == "fails in its hook" else PluginError
    with pytest.raises(kind_of_error):
        registry.register(plugin("b", BROKEN[fault][0]).load(), "b")
    assert registry.kinds("sampler") == ["first"]
    assert list(registry.recipes) == ["first_recipe"]


def test_no_plugin_takes_a_kind_from_the_standard_distributions_by_its_name(plugin):
    ours = plugin("z", GOOD.format(kind="first"))._for(SimpleNamespace(name="latdiff-processes", version="1"))
    theirs = plugin("a", GOOD.format(kind="first"))._for(SimpleNamespace(name="aaa-samplers", version="2"))
    registry = Registry()
    registry.load([theirs, ours])
    assert registry.owner("sampler", "first") == "latdiff-processes"
    assert [report.error is None for report in registry.plugins] == [True, False]
    assert "declared by both latdiff-processes and aaa-samplers" in registry.plugins[1].error


def test_two_owners_of_one_kind_are_both_named(plugin):
    registry = Registry()
    registry.register(plugin("a", GOOD.format(kind="first")).load(), "a", distribution="package-one")
    with pytest.raises(PluginError, match="'first' is declared by both package-one and package-two"):
        registry.register(plugin("b", GOOD.format(kind="first")).load(), "b", distribution="package-two")


def test_an_unknown_kind_lists_what_exists_and_which_plugins_failed(plugin):
    registry = Registry()
    registry.load([plugin("good", GOOD.format(kind="first")), plugin("bad", "import a_package_that_is_not_there")])
    with pytest.raises(ConfigError, match=r"no sampler is called 'frist'; did you mean 'first'\?.*failed to load: bad"):
        registry.get("sampler", "frist")
    with pytest.raises(ConfigError, match="no recipe is called 'other'; known: first_recipe"):
        registry.recipe("other")


def test_another_registry_holds_only_inside_its_block():
    def interrupted_use() -> None:
        with use_registry(Registry()):
            with pytest.raises(ConfigError, match="none exist"):
                recipe_config("default")
            raise RuntimeError("left early")

    with pytest.raises(RuntimeError, match="left early"):
        interrupted_use()
    assert current_registry() is installed()
    assert recipe_config("default").autoencoder.latent_dim == 32


def test_every_installed_plugin_loads():
    assert {report.name: report.error for report in installed().plugins if report.error} == {}
    assert {"default", "foundations"} <= set(installed().recipes)
