"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from latdiff_core import LatentDiffusion
from latdiff_core.configs import load_config
from latdiff_core.registry import STANDARD, Registry, installed
from latdiff_core.testing import ScheduleContract

README = (Path(__file__).parent.parent / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _run(code: str) -> ModuleType:
    module = ModuleType("readme")
    exec(compile(code, "<README.md>", "exec", dont_inherit=True), module.__dict__)
    return module


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return _run(_blocks("python")[2])


def test_the_python_example_runs(tiny_data, tiny_overrides, tmp_path, monkeypatch, quick):
    data = tiny_data.copy()
    data.obs["cell_type"] = data.obs["cell_type"].cat.rename_categories({"B": "B cell"})
    (tmp_path / "data").mkdir()
    for name in ("train", "held_out"):
        data.write_h5ad(tmp_path / "data" / f"{name}.h5ad")
    monkeypatch.chdir(tmp_path)
    whole = LatentDiffusion.from_recipe.__func__
    small = classmethod(lambda cls, name, conditions: whole(cls, name, conditions, tiny_overrides))
    monkeypatch.setattr(LatentDiffusion, "from_recipe", small)
    module = _run(_blocks("python")[0])
    assert module.cells.n_obs == data.n_obs
    assert module.latent.shape == (data.n_obs, 4)
    assert module.model.generate(2).n_obs == 2
    exec(compile(_blocks("python")[1], "README.md", "exec"), vars(module))
    assert (tmp_path / "report.html").is_file()


def test_the_config_is_valid():
    for block in _blocks("yaml"):
        load_config(yaml.safe_load(block))


def test_the_plugin_registers(plugin):
    registry = Registry()
    registry.register(plugin, "readme")
    assert registry.kinds("schedule") == ["quarter_circle"]


def test_the_plugin_keeps_the_contract(plugin):
    contract = type("Contract", (ScheduleContract,), {"config": plugin.QuarterCircleScheduleConfig()})
    checks = [name for name in dir(contract) if name.startswith("test_")]
    assert checks
    for name in checks:
        getattr(contract(), name)()


def test_the_table_of_parts_is_complete():
    """Every standard kind and recipe is in the table, under its interface, and nothing else is."""
    table = dict(re.findall(r"^\| (\w+)[\w, ]* \| (.*) \|$", README, re.MULTILINE))
    for interface in ("encoder", "decoder", "denoiser", "schedule", "sampler", "conditioner", "guidance"):
        kinds = [kind for kind in installed().kinds(interface) if installed().owner(interface, kind) in STANDARD]
        assert sorted(re.findall(r"`(\w+)`", table[interface])) == kinds
    assert sorted(re.findall(r"`(\w+)`", table["recipe"])) == sorted(installed().recipes)
