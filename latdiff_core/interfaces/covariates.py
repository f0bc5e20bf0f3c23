"""What stage 1 is told beside the counts: the sizes of its parts, and each cell's covariates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latdiff_core.device import moved


@dataclass(frozen=True)
class Sizes:
    """The sizes that an encoder and a decoder are built for; they come from the data, never from a config.

    Attributes
    ----------
    genes
        Number of modelled genes.
    latent_dim
        Dimensions of the latent.
    nuisance, condition
        Widths of the two covariates.
    """

    genes: int
    latent_dim: int
    nuisance: int = 0
    condition: int = 0


@dataclass(frozen=True)
class Covariates:
    """What is known of each cell beside its counts, coded so that 0 is unknown; for nuisance also the average cell.

    A categorical attribute is one-hot minus the categories' shares, a number is standardised. After a condition's
    number, or vector, comes 1 where it is known: the average dose is a dose, and not the lack of one.

    Attributes
    ----------
    nuisance
        What the latent shall be free of, such as batch or donor, (batch, nuisance).
    condition
        What generation can be asked for, such as cell type, (batch, condition).
    """

    nuisance: Tensor
    condition: Tensor

    @classmethod
    def average(cls, cells: int, sizes: Sizes) -> Covariates:
        """The covariates of ``cells`` of which nothing is known."""
        return cls(torch.zeros(cells, sizes.nuisance), torch.zeros(cells, sizes.condition))

    def to(self, device: torch.device | str) -> Covariates:
        """Move to a device."""
        return Covariates(moved(self.nuisance, device), moved(self.condition, device))
