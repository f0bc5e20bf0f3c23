"""Files and folders that appear whole or not at all, and never in the place of what nobody allowed to be replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latdiff_core.errors import OutputExistsError

LOCK = ".lock"
"""In a folder that one process at a time works in."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place at the end; after an error it is gone.

    A kill leaves nothing at ``path``, or what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    remove(temporary)  # what a process of the same number has left
    try:
        yield temporary
        replace(temporary, path)
    finally:
        remove(temporary)


@contextmanager
def worked_in_alone(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made if it is not there, to this process; one that dies frees it.

    Raises
    ------
    OutputExistsError
        If another process works in it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise OutputExistsError(
            f"another process works in {folder}; wait for its end, or choose another name"
        ) from None


@contextmanager
def saving_tensors() -> Iterator[None]:
    """A full disk as the OSError that it is: safetensors has an error of its own."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all, replacing a file that is there, but nothing else."""
    refuse_unless_file(path)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise OutputExistsError if something is there that nobody allowed to be replaced."""
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists; choose another name, or allow it to be replaced (--overwrite, in Python overwrite=True)"
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise OutputExistsError(f"{path} cannot be made, because {folder} is a file; choose another name")


def refuse_input(path: Path, *inputs: Path | None) -> None:
    """Raise OutputExistsError if an output is one of the files that are read, whatever may be replaced."""
    if any(given is not None and given.resolve() == path.resolve() for given in inputs):
        raise OutputExistsError(f"{path} is to be read and to be written; choose another name for the output")


def refuse_unless_file(path: Path) -> None:
    """Raise OutputExistsError where a file is to be written and something else stands, whatever may be replaced."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no file but a device or a pipe"
        raise OutputExistsError(f"{path} is {what}; give the name of a file")


def replace(temporary: Path, path: Path) -> None:
    """Move a finished file or folder to its name, replacing what is there."""
    if path.is_dir():  # a folder cannot be renamed onto another: step aside first
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(aside)
        try:
            temporary.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        remove(aside)
    else:
        temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there; of a folder nothing stays at its name, even after a kill."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".{path.name}.{os.getpid()}.removed")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)
