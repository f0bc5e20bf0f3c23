"""A progress bar for loops outside training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, total: int, shown: bool, unit: str = "cells") -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the bar, which does nothing unless ``shown``."""
    if not shown:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text = TextColumn("{task.description:<11}")
    count = TextColumn("{task.completed}/{task.total} " + unit)
    with Progress(text, BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
