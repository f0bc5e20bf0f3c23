"""What every guidance promises."""

from __future__ import annotations

import torch
from torch import Tensor

from latdiff_core.interfaces import BranchedDenoise, Guidance, GuidanceConfig
from latdiff_core.testing.component import ComponentContract

BATCH, DIM = 4, 9


class GuidanceContract(ComponentContract):
    """The contract of ``Guidance``.

    Attributes
    ----------
    attribute_counts
        Numbers of condition attributes to try; 0 is a model without conditions.
    repelled
        Attributes, called a0, a1, …, that ``config`` moves cells away from instead of towards.
    """

    config: GuidanceConfig
    attribute_counts: tuple[int, ...] = (0, 1, 2, 5)
    repelled: tuple[str, ...] = ()

    def build(self, attributes: int) -> Guidance:
        """Make the guidance for attributes called a0, a1, …"""
        return self.config.build(attributes=[f"a{i}" for i in range(attributes)])

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Noisy latents and times, the same at every call."""
        return torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1)), torch.full((BATCH,), 0.5)

    def watched(self, calls: list[Tensor], weight: float) -> BranchedDenoise:
        """A denoiser that records ``keep`` and adds ``weight`` for every attribute that a branch keeps."""

        def denoise(z_t: Tensor, t: Tensor, keep: Tensor) -> Tensor:
            calls.append(keep)
            return z_t + weight * keep.sum(-1).to(z_t).view(-1, 1, 1)  # (branches, batch, dim)

        return denoise

    def test_the_keep_mask_is_per_cell_and_per_attribute(self) -> None:
        """The mask is bool and (batch, attributes) for any number of attributes."""
        for attributes in self.attribute_counts:
            keep = self.build(attributes).keep_mask(BATCH, torch.Generator().manual_seed(0))
            assert keep.shape == (BATCH, attributes)
            assert keep.dtype == torch.bool

    def test_the_keep_mask_follows_the_seed(self) -> None:
        """The same generator state draws the same mask, and another one another mask where any condition is hidden."""
        first, again, other = (self.build(3).keep_mask(500, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert torch.equal(first, again)
        assert first.all() or not torch.equal(first, other)

    def test_training_sees_conditions(self) -> None:
        """Every attribute is kept for some cells: what is never seen cannot be asked for."""
        for attributes in self.attribute_counts:
            assert self.build(attributes).keep_mask(500, torch.Generator().manual_seed(0)).any(dim=0).all()

    def test_every_evaluation_is_one_call_of_the_network(self) -> None:
        """All branches go through the network together, each saying by a bool per attribute what it keeps."""
        for attributes in self.attribute_counts:
            calls: list[Tensor] = []
            z = self.build(attributes).guided(self.watched(calls, weight=1.0))(*self.inputs())
            assert z.shape == (BATCH, DIM)
            assert len(calls) == 1
            assert calls[0].dtype == torch.bool
            assert calls[0].shape[1:] == (attributes,)

    def test_a_condition_without_effect_is_left_without_effect(self) -> None:
        """Where the network ignores the condition, guidance changes nothing."""
        z_t, t = self.inputs()
        for attributes in self.attribute_counts:
            torch.testing.assert_close(self.build(attributes).guided(self.watched([], weight=0.0))(z_t, t), z_t)

    def test_every_condition_moves_its_own_cell_and_in_its_own_direction(self) -> None:
        """Where one attribute alone moves latents, and cell i by i, guidance moves them so by a factor, at any time."""
        z_t, _ = self.inputs()
        sizes = torch.arange(BATCH).view(-1, 1)
        for attributes in self.attribute_counts:
            for attribute in range(attributes):

                def denoise(z_t: Tensor, t: Tensor, keep: Tensor, attribute: int = attribute) -> Tensor:
                    return z_t + keep[:, attribute].to(z_t).view(-1, 1, 1) * sizes.to(z_t)  # (branches, batch, dim)

                for time in (0.02, 0.35, 0.65, 1.0):
                    moved = self.build(attributes).guided(denoise)(z_t, torch.full((BATCH,), time)) - z_t
                    assert moved[1, 0] < 0 if f"a{attribute}" in self.repelled else moved[1, 0] > 0
                    torch.testing.assert_close(moved, (sizes * moved[1, 0]).expand_as(moved))

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """No cell is guided by the latents or the time of another cell."""
        z_t, _ = self.inputs()
        t = torch.tensor([0.02, 0.35, 0.65, 1.0])

        def denoise(z_t: Tensor, t: Tensor, keep: Tensor) -> Tensor:
            return (1 + keep.sum(-1).to(z_t).view(-1, 1, 1)) * z_t * t.view(-1, 1)

        for attributes in self.attribute_counts:
            guided = self.build(attributes).guided(denoise)
            together = guided(z_t, t)
            for i in range(BATCH):
                torch.testing.assert_close(guided(z_t[i : i + 1], t[i : i + 1]), together[i : i + 1])

    def test_the_dtype_of_the_latents_is_kept(self) -> None:
        """Guided latents have the dtype that the network gave."""
        z_t, t = self.inputs()
        for dtype in (torch.float32, torch.float64):
            assert self.build(2).guided(self.watched([], weight=1.0))(z_t.to(dtype), t).dtype == dtype
