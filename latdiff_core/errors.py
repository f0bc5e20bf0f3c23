"""What can go wrong in front of a user; each message says what was given, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ConfigError",
    "DataError",
    "GenerationInterrupted",
    "LatdiffError",
    "OutputExistsError",
    "PluginError",
    "RunFolderError",
    "ShapeError",
    "TrainingDiverged",
    "TrainingInterrupted",
    "known",
    "require_seed",
    "require_shape",
]

MOST_LISTED = 20


class LatdiffError(Exception):
    """Base of every error that is addressed to a user rather than to a developer."""


class ConfigError(LatdiffError):
    """A config that cannot become a model: unknown kinds, misspelt fields, parts that do not fit."""


class DataError(LatdiffError):
    """Input data, or a request about data, that the model cannot take."""


class ShapeError(LatdiffError, ValueError):
    """A tensor of the wrong shape, refused before it can broadcast."""


class RunFolderError(LatdiffError):
    """A run folder, or one of checkpoints, that is missing, damaged, of another fit, or of another version."""


class OutputExistsError(LatdiffError):
    """An output that exists already and that nobody allowed to be replaced."""


class PluginError(LatdiffError):
    """Installed plugins that contradict each other or the hook specification."""


class TrainingDiverged(LatdiffError):
    """A loss that is no number any more; the message says what to change."""


class TrainingInterrupted(LatdiffError):
    """Training was stopped by the user; the message says where it can be taken up again."""


class GenerationInterrupted(LatdiffError):
    """Generation to a file was stopped by the user, or by a process that died; the message says how to go on."""


def require_seed(seed: object, lowest: int, below: int) -> None:
    """Refuse a seed that would fail only where it is used, which may be after a training.

    Raises
    ------
    DataError
        If it is no whole number of that range.
    """
    if not isinstance(seed, Integral) or not lowest <= int(seed) < below:
        raise DataError(f"seed is {seed!r}; give a whole number from {lowest} to {below - 1}")


def require_shape(name: str, tensor: Tensor, shape: Sequence[int]) -> None:
    """Refuse a tensor that would otherwise broadcast into something larger.

    Raises
    ------
    ShapeError
        If ``tensor`` has not exactly the given shape.
    """
    if tuple(tensor.shape) != tuple(shape):
        raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; it must be {tuple(shape)}")


def known(names: Iterable[str], given: str | None = None) -> str:
    """List what exists, the first of many, with the nearest name first when one is close to what was given."""
    names = list(names)
    if not names:
        return "none exist"
    shown = ", ".join(names[:MOST_LISTED]) + (f", … ({len(names)} in all)" if len(names) > MOST_LISTED else "")
    close = get_close_matches(given, names, n=1) if given else []
    return f"did you mean {close[0]!r}? Known: {shown}" if close else f"known: {shown}"
