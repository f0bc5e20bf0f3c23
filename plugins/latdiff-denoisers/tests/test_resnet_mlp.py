"""The residual MLP."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Unconditional
from latdiff_core.testing import AddCondition, DenoiserContract, nudge
from latdiff_denoisers import ResNetMLP, ResNetMLPConfig


class TestResNetMLP(DenoiserContract):
    config = ResNetMLPConfig(width=48, depth=2)


class TestResNetMLPAsWideAsTheLatent(DenoiserContract):
    config = ResNetMLPConfig(width=5, depth=1, expansion=1, dropout=0.1)
    dims = (1, 3, 5)


def _resnet(dim: int = 12, **fields) -> ResNetMLP:
    torch.manual_seed(0)
    config = ResNetMLPConfig(**{"width": 16, "depth": 2} | fields)
    return config.build(dim=dim, make_conditioner=lambda width: AddCondition(width=width, condition_width=6))


def _inputs(dim: int = 12):
    generator = torch.Generator().manual_seed(1)
    z_t, condition = torch.randn(5, dim, generator=generator), torch.randn(5, 2, 6, generator=generator)
    return z_t, torch.linspace(0.1, 1, 5), condition


def test_the_prediction_is_zero_at_the_start():
    assert torch.equal(_resnet()(*_inputs()), torch.zeros(5, 12))


def test_blocks_begin_as_their_conditioner():
    """adaLN-Zero: the gate of the MLP begins closed."""
    resnet, (_, t, condition) = _resnet(), _inputs()
    x = torch.randn(5, 1, 16)
    block = resnet.blocks[0]
    assert torch.equal(block(x, resnet.time(t), condition), block.conditioner(x, condition))


def test_exchanging_latent_dimensions_with_their_weights_changes_nothing():
    """The order of the latent's dimensions means nothing."""
    resnet, (z_t, t, condition) = nudge(_resnet()), _inputs()
    before, order = resnet(z_t, t, condition), torch.randperm(12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        resnet.embed.weight.copy_(resnet.embed.weight[:, order])
        resnet.out.weight.copy_(resnet.out.weight[order])
        resnet.out.bias.copy_(resnet.out.bias[order])
    torch.testing.assert_close(resnet(z_t[:, order], t, condition), before[:, order])


def test_every_block_gets_its_own_conditioner():
    widths = []

    def make_conditioner(width):
        widths.append(width)
        return AddCondition(width=width, condition_width=6)

    resnet = ResNetMLPConfig(width=16, depth=3).build(dim=12, make_conditioner=make_conditioner)
    assert widths == [16, 16, 16]
    assert len({id(block.conditioner) for block in resnet.blocks}) == 3


@pytest.mark.parametrize(("width", "dim"), [(8, 9), (16, 64)])
def test_a_network_narrower_than_the_latent_is_refused(width, dim):
    with pytest.raises(ConfigError, match=f"width {width} is narrower .* raise width to at least {dim}"):
        ResNetMLPConfig(width=width).build(dim=dim, make_conditioner=lambda width: Unconditional())
