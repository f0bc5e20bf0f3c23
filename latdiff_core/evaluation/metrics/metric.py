"""What a metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latdiff_core.evaluation.baselines import TRIVIAL
from latdiff_core.evaluation.cells import CellSet, Reference


@dataclass(frozen=True)
class Score:
    """One figure that a metric gives, as a reader meets it.

    Attributes
    ----------
    name
        Its row in the table.
    meaning
        A sentence for a biologist: what it asks, and what a bad value says.
    """

    name: str
    meaning: str


class Metric(ABC):
    """Compares a set of cells with real held-out ones.

    A metric knows no floor and no baseline: it is asked the same of generated cells, of held-out cells and of the
    baselines, and only the comparison of the answers says how good a generator is.

    Attributes
    ----------
    title
        Heading of its scores.
    scores
        What it gives, by key.
    needs_labels
        Whether it can be asked only when a condition is compared.
    baselines
        The baselines that generated cells have to beat.
    """

    title: ClassVar[str]
    scores: ClassVar[Mapping[str, Score]]
    needs_labels: ClassVar[bool] = False
    baselines: ClassVar[tuple[str, ...]] = TRIVIAL

    @abstractmethod
    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        """A value for each of ``scores``, by key; NaN where it has no meaning.

        Parameters
        ----------
        cells
            The cells in question.
        half
            As many held-out real cells.
        reference
            The training cells.
        """
