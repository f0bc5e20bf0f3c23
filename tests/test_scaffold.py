"""The packages that `latdiff new-plugin` writes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import latdiff_core
from latdiff_core.cli import main
from latdiff_core.interfaces import INTERFACES
from latdiff_core.scaffold import Plugin, write_plugin

KINDS = [config.interface for config in INTERFACES]
PROJECT = Path(__file__).parent.parent
RULES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> list[Path]:
    """One package of each kind."""
    root = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        write_plugin(Plugin(f"latdiff-first-{kind}-of-mine", kind), root / kind)
    return [root / kind for kind in KINDS]


@pytest.fixture
def new_plugin(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder; gives its exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latdiff", "new-plugin", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


def test_the_tests_that_come_with_every_kind_pass(packages):
    """The whole contract, run as a stranger would, by a pytest of its own that finds the packages by their path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-W", "error", "--verbose", "-p", "no:cacheprovider", *packages]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=packages[0].parent)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for kind in KINDS:
        mine = [line for line in finished.stdout.splitlines() if f"test_first_{kind}_of_mine.py" in line]
        assert any("test_latdiff_finds_it PASSED" in line for line in mine)
        assert len(mine) >= 6


@pytest.mark.parametrize("arguments", [["format", "--check"], ["check"]], ids=" ".join)
def test_the_code_is_in_the_house_style(packages, arguments):
    rules = [f"--select={','.join(RULES['select'])}", f"--ignore={','.join(RULES['ignore'])}"]
    options = rules if arguments == ["check"] else []
    command = [sys.executable, "-m", "ruff", *arguments, *options, "--no-cache", *packages]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_nothing_is_left_to_fill_in(packages):
    for package in packages:
        for file in (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            assert "$" not in file.read_text(), file


def test_the_package_asks_for_this_latdiff(packages):
    project = tomllib.loads((packages[0] / "pyproject.toml").read_text())["project"]
    core = next(r for r in map(Requirement, project["dependencies"]) if r.name == "latdiff-core")
    assert latdiff_core.__version__ in core.specifier


def test_the_command_says_what_to_do_next(new_plugin, tmp_path):
    code, text, _ = new_plugin("latdiff-my-schedule", "--kind", "schedule")
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["latdiff-my-schedule"]
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert written == {
        f"latdiff-my-schedule/{name}"
        for name in (
            "README.md", "pyproject.toml", "latdiff_my_schedule/__init__.py", "latdiff_my_schedule/my_schedule.py",
            "latdiff_my_schedule/plugin.py", "latdiff_my_schedule/py.typed", "tests/test_my_schedule.py",
        )
    }  # fmt: skip
    component, *steps = text.splitlines()
    assert component.startswith("MySchedule is in latdiff-my-schedule/latdiff_my_schedule/my_schedule.py")
    assert steps == [
        "  pip install pytest -e latdiff-my-schedule",
        "  pytest latdiff-my-schedule",
        "  latdiff fit data.h5ad --condition cell_type --set diffusion.schedule=my_schedule --out run",
    ]


def test_the_folder_can_be_named(new_plugin, tmp_path):
    code, text, _ = new_plugin("latdiff-mine", "--kind", "encoder", "--out", tmp_path / "my code" / "plugin")
    assert code == 0
    assert f"pip install pytest -e '{tmp_path}/my code/plugin'" in text
    assert "class MineEncoder(Encoder):" in (tmp_path / "my code/plugin/latdiff_mine/mine.py").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("latdiff-mine", "decodr", "no part of a model is called 'decodr'; did you mean 'decoder'? Known: encoder, "),
        ("Latdiff Mine", "decoder", "'Latdiff Mine' cannot name a plugin: give lower-case words with hyphens"),
        ("latdiff-mine-", "decoder", "cannot name a plugin"),
        ("../mine", "decoder", "cannot name a plugin"),
        ("latdiff-3d", "decoder", "cannot name a plugin"),
        ("latdiff-class", "decoder", "'class' is taken; choose another name"),
        ("latdiff-plugin", "decoder", "'plugin' is taken; choose another name"),
        ("scipy", "decoder", "'scipy' can be imported already, it is somebody else's; choose another name"),
        ("latdiff-dit", "denoiser", "latdiff-denoisers has a denoiser 'dit' already; choose another name"),
    ],
)
def test_a_name_that_cannot_work_is_explained_and_nothing_is_written(new_plugin, tmp_path, name, kind, message):
    code, _, err = new_plugin(name, "--kind", kind)
    assert code == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(new_plugin, tmp_path):
    (tmp_path / "latdiff-mine").mkdir()
    (tmp_path / "latdiff-mine" / "README.md").write_text("precious")
    code, _, err = new_plugin("latdiff-mine", "--kind", "decoder")
    assert code == 1
    assert "latdiff-mine exists; choose another name" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["latdiff-mine", "README.md"]
    assert (tmp_path / "latdiff-mine" / "README.md").read_text() == "precious"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(self: Path, *arguments: object, **options: object) -> int:
        raise OSError("no space left on device")

    plugin = Plugin("latdiff-mine", "decoder")
    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_plugin(plugin, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "component"),
    [("latdiff-decoder", "MyDecoder"), ("latdiff-zero-decoder", "ZeroDecoder"), ("negbin", "NegbinDecoder")],
)
def test_the_class_is_a_noun_of_its_interface_once(name, component):
    assert Plugin(name, "decoder").component == component
