"""Markdown of the reference pages: tables, links, and what docstrings say."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any


def told_at(package: str, name: str) -> str:
    """A link to where a name's docstring is shown."""
    return f"{{py:obj}}`{name} <{package}.{name}>`"


def table(head: str, rows: Iterable[str]) -> list[str]:
    rows = list(rows)
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows, ""] if rows else []


def as_markdown(thing: Any) -> str:
    """A docstring without sections, in Markdown."""
    return (inspect.getdoc(thing) or "").replace("``", "`")


def first_sentence(thing: Any) -> str:
    """The first paragraph of a docstring, or of a text, on one line."""
    text = thing if isinstance(thing, str) else inspect.getdoc(thing) or ""
    return cell(text.split("\n\n")[0])


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")
