"""The diffusion transformer."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Unconditional
from latdiff_core.testing import AddCondition, DenoiserContract, nudge
from latdiff_denoisers import DiT, DiTConfig


class TestDiT(DenoiserContract):
    config = DiTConfig(width=16, depth=2, heads=2, token_dim=4)


class TestDiTOfManySmallTokens(DenoiserContract):
    config = DiTConfig(width=8, depth=1, heads=4, token_dim=1, dropout=0.1)
    dims = (2, 5)


def _dit(dim: int = 12, **fields) -> DiT:
    torch.manual_seed(0)
    config = DiTConfig(**{"width": 16, "depth": 2, "heads": 2, "token_dim": 4} | fields)
    return config.build(dim=dim, make_conditioner=lambda width: AddCondition(width=width, condition_width=6))


def _inputs(dim: int = 12):
    generator = torch.Generator().manual_seed(1)
    z_t, condition = torch.randn(5, dim, generator=generator), torch.randn(5, 2, 6, generator=generator)
    return z_t, torch.linspace(0.1, 1, 5), condition


def test_the_prediction_is_zero_at_the_start():
    """adaLN-Zero: blocks begin as their conditioner, and the output layer begins at zero."""
    assert torch.equal(_dit()(*_inputs()), torch.zeros(5, 12))


def test_blocks_begin_as_their_conditioner():
    dit, (_, t, condition) = _dit(), _inputs()
    x = torch.randn(5, 3, 16)
    block = dit.blocks[0]
    assert torch.equal(block(x, dit.time(t), condition), block.conditioner(x, condition))


@pytest.mark.parametrize(("dim", "token_dim", "tokens"), [(12, 4, 3), (13, 4, 4), (33, 8, 5), (5, 1, 5), (3, 2, 2)])
def test_the_latent_becomes_several_tokens(dim, token_dim, tokens):
    """Of a latent that does not divide evenly, the last token is padded."""
    dit = nudge(_dit(dim, token_dim=token_dim))
    shapes = []
    dit.blocks[0].attention.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    assert dit(*_inputs(dim)).shape == (5, dim)
    assert shapes == [(5, tokens, 16)]


def test_attention_looks_at_the_tokens():
    """With one token per cell the softmax is 1, and the gradients of query and key are exactly 0."""
    dit = nudge(_dit())
    dit(*_inputs()).square().sum().backward()
    for block in dit.blocks:
        query, key, value = block.attention.qkv.weight.grad.chunk(3)
        assert query.abs().max() > 1e-6
        assert key.abs().max() > 1e-6
        assert value.abs().max() > 1e-6


def test_a_token_reaches_the_prediction_of_every_other_token_and_of_no_other_cell():
    dit, (z_t, t, condition) = nudge(_dit(), size=0.3), _inputs()
    changed = z_t.clone()
    changed[2, 0] += 1.0  # the first token of the third cell
    change = (dit(changed, t, condition) - dit(z_t, t, condition)).abs().view(5, 3, 4).amax(-1)  # (batch, tokens)
    assert (change[2] > 1e-5).all()
    assert change[[0, 1, 3, 4]].max() < 1e-5


def test_tokens_have_positions():
    """Without them, exchanging two tokens would exchange their predictions."""
    dit, (z_t, t, condition) = nudge(_dit(), size=0.3), _inputs()
    tokens = z_t.view(5, 3, 4)[:, [1, 0, 2]]
    exchanged = dit(tokens.reshape(5, 12), t, condition).view(5, 3, 4)[:, [1, 0, 2]]
    assert (exchanged.reshape(5, 12) - dit(z_t, t, condition)).abs().max() > 1e-2


@pytest.mark.parametrize("dim", [1, 7, 8])
def test_a_single_token_is_refused(dim):
    with pytest.raises(ConfigError, match="token_dim 8 makes one token"):
        DiTConfig(token_dim=8).build(dim=dim, make_conditioner=lambda width: Unconditional())


def test_a_token_wider_than_the_network_is_refused():
    with pytest.raises(ConfigError, match="raise width to at least 16"):
        DiTConfig(width=8, heads=2, token_dim=16).build(dim=64, make_conditioner=lambda width: Unconditional())


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"heads \(3\) must divide width \(128\)"):
        DiTConfig(heads=3)


def test_every_block_gets_its_own_conditioner():
    widths = []

    def make_conditioner(width):
        widths.append(width)
        return AddCondition(width=width, condition_width=6)

    dit = DiTConfig(width=16, depth=3, heads=2, token_dim=4).build(dim=12, make_conditioner=make_conditioner)
    assert widths == [16, 16, 16]
    assert len({id(block.conditioner) for block in dit.blocks}) == 3
