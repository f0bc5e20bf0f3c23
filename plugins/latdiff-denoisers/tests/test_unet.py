"""The U-Net."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Unconditional
from latdiff_core.testing import AddCondition, DenoiserContract, nudge
from latdiff_denoisers import UNet, UNetConfig
from latdiff_denoisers.residual_block import ResidualBlock


class TestUNet(DenoiserContract):
    config = UNetConfig(widths=(48, 24, 12))


class TestDeepUNetOfOddWidths(DenoiserContract):
    config = UNetConfig(widths=(9, 5), depth=2, dropout=0.1)
    dims = (1, 4, 9)


def _unet(dim: int = 12, **fields) -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(**{"widths": (16, 8, 4)} | fields)
    return config.build(dim=dim, make_conditioner=lambda width: AddCondition(width=width, condition_width=6))


def _inputs(dim: int = 12):
    generator = torch.Generator().manual_seed(1)
    z_t, condition = torch.randn(5, dim, generator=generator), torch.randn(5, 2, 6, generator=generator)
    return z_t, torch.linspace(0.1, 1, 5), condition


def _cut(layer: torch.nn.Linear, columns: slice = slice(None)) -> None:
    with torch.no_grad():
        layer.weight[:, columns] = 0


def _reach(unet: UNet) -> torch.Tensor:
    """How much each latent dimension changes the prediction, (dim,)."""
    z_t, t, condition = _inputs()
    z_t.requires_grad_()
    unet(z_t, t, condition).square().sum().backward()
    return z_t.grad.abs().amax(0)


def test_the_prediction_is_zero_at_the_start():
    assert torch.equal(_unet()(*_inputs()), torch.zeros(5, 12))


@pytest.mark.parametrize("depth", [1, 2])
def test_every_block_gets_its_own_conditioner_of_its_levels_width(depth):
    """Down and up at every level, and one block in the middle."""
    widths = []

    def make_conditioner(width):
        widths.append(width)
        return AddCondition(width=width, condition_width=6)

    unet = UNetConfig(widths=(16, 8, 4), depth=depth).build(dim=12, make_conditioner=make_conditioner)
    assert Counter(widths) == {16: 2 * depth, 8: 2 * depth, 4: 1}
    blocks = [module for module in unet.modules() if isinstance(module, ResidualBlock)]
    assert len({id(block.conditioner) for block in blocks}) == len(blocks) == len(widths)


def test_every_conditioner_gets_a_time_embedding_of_its_own_width():
    seen = []

    class Watched(Unconditional):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def join_time(self, time, condition):
            seen.append((tuple(time.shape), self.width))
            return time

    UNetConfig(widths=(16, 8, 4)).build(dim=12, make_conditioner=Watched)(*_inputs())
    assert seen == [((5, width), width) for width in (16, 8, 4, 8, 16)]


@pytest.mark.parametrize("level", [0, 1])
def test_the_skip_carries_where_everything_narrower_is_cut_off(level):
    unet = nudge(_unet())
    outer = unet.levels if level == 0 else unet.levels.inner
    _cut(outer.narrow)
    assert (_reach(unet) > 1e-3).all()


def test_the_middle_carries_where_every_skip_is_cut_off():
    unet = nudge(_unet())
    _cut(unet.levels.join, slice(8, None))
    _cut(unet.levels.inner.join, slice(4, None))
    assert (_reach(unet) > 1e-3).all()


def test_nothing_is_carried_past_the_skip_and_the_narrower_levels():
    """The two cuts together leave no path: the tests above cut what they say."""
    unet = nudge(_unet())
    _cut(unet.levels.join)
    assert _reach(unet).max() == 0


def test_a_network_narrower_than_the_latent_is_refused():
    with pytest.raises(ConfigError, match=r"the first of widths, 16, is narrower .* raise it to at least 17"):
        UNetConfig(widths=(16, 8)).build(dim=17, make_conditioner=lambda width: Unconditional())


@pytest.mark.parametrize("widths", [(16, 16), (8, 16), (16, 8, 12)])
def test_widths_must_fall(widths):
    with pytest.raises(ValueError, match="widths must fall from each level to the next"):
        UNetConfig(widths=widths)


def test_a_single_width_is_refused():
    with pytest.raises(ValueError, match="at least 2 items"):
        UNetConfig(widths=(16,))
