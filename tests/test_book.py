"""The book says what is, links to what exists, and builds without a warning."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from latdiff_core.configs import load_config
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.registry import installed

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PAGES = sorted([*BOOK.glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md")])


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BOOK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return _module("make_reference")


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    return reference.pages()


def test_every_page_is_in_the_table_of_contents(pages):
    toc = set(re.findall(r"(?:file|root): book/(\S+)", (BOOK / "_toc.yml").read_text()))
    assert toc == {path.stem for path in BOOK.glob("*.md")} | {f"reference/{name}" for name in pages}


def test_every_field_of_every_config_is_in_the_reference_with_a_description(reference, pages):
    kinds = [installed().get(base.interface, kind) for base in INTERFACES for kind in installed().kinds(base.interface)]
    sections = [config for _, config in reference.sections(reference.ModelConfig)]
    for config in (*kinds, *sections):
        assert inspect.getdoc(config)
        table = "\n".join(reference.config_table(config))
        assert table in pages["configs"]
        for name, info in config.model_fields.items():
            assert name == "kind" or (info.description and f"| `{name}` |" in table), f"{config.__name__}.{name}"


def test_every_kind_and_hook_has_its_place_in_the_reference(reference, pages):
    for base in INTERFACES:
        for kind in installed().kinds(base.interface):
            assert f"### {base.interface}: `{kind}`" in pages["configs"]
    hooks = reference.hooks()
    assert [name for name, _ in hooks] == ["latdiff_components", "latdiff_recipes"]
    for _, hook in hooks:
        assert str(inspect.getdoc(hook)) in pages["hooks"]


def test_every_public_name_is_in_the_reference_with_a_docstring(reference, pages):
    for package in reference.PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                assert f"   {name}\n" in pages[package]
                assert (inspect.getdoc(thing) or "").strip(), f"{package}.{name} has no docstring"
                assert "Abstract" not in (inspect.getdoc(thing) or "")[:8]


def test_every_package_with_public_names_is_in_the_reference(reference):
    packages = [
        path.parent for path in (*ROOT.glob("plugins/*/*/__init__.py"), *ROOT.glob("latdiff_core/*/__init__.py"))
    ]
    public = {path for path in packages if "__all__" in (path / "__init__.py").read_text()}
    names = {path.name if "plugins" in path.parts else f"latdiff_core.{path.name}" for path in public}
    assert names | {"latdiff_core"} == set(reference.PACKAGES)


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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    """Headings within the book are checked by its build."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"https?:", target) and not target.startswith("reference/"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_configs_that_are_shown_exist(path, pages):
    commands = pages["commands"].split("\n## ")
    options = {part.split("`")[1].removeprefix("latdiff "): part for part in commands if part.startswith("`latdiff ")}
    for block in re.findall(r"```(?:bash|sh|text|console)?\n(.*?)```", path.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"\s*latdiff ([a-z-]+)(.*)", line):
                assert match[1] in options, line
                for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", match[2].split("#")[0]):
                    assert option in options[match[1]], line
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
        assert isinstance(load_config(yaml.safe_load(block)), Config)


def test_the_book_builds_without_a_warning(tmp_path, pages):
    """Notebooks are not executed here; they are by themselves."""
    for name in ("book", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("_build", "reference"))
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    (tmp_path / "book" / "reference").mkdir()
    for name, text in pages.items():
        (tmp_path / "book" / "reference" / f"{name}.md").write_text(text)
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    (tmp_path / "book" / "_config.yml").write_text(yaml.safe_dump(config))
    paths = ["--config", "book/_config.yml", "--toc", "book/_toc.yml", "--path-output", "built"]
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", ".", *paths, "-W", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, re.findall(r".*(?:WARNING|ERROR).*", done.stderr + done.stdout)
    html = tmp_path / "built" / "_build" / "html"
    assert "latdiff" in (html / "book" / "index.html").read_text()
    for page in html.rglob("*.html"):  # nothing is fetched when a page is opened
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+', page.read_text()) == [], page
