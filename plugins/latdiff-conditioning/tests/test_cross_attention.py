"""Attention of the activations to the attributes."""

from __future__ import annotations

import pytest
import torch

from latdiff_conditioning import CrossAttentionConditionerConfig
from latdiff_core.errors import ConfigError
from latdiff_core.testing import ConditionerContract, nudge


class TestCrossAttentionConditioner(ConditionerContract):
    config = CrossAttentionConditionerConfig()


class TestCrossAttentionOfOneHead(ConditionerContract):
    config = CrossAttentionConditionerConfig(heads=1)
    width = 7


def _attention(attributes: int = 2):
    torch.manual_seed(0)
    return CrossAttentionConditionerConfig(heads=2).build(width=8, attributes=attributes, condition_width=3)


def _inputs(attributes: int = 2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 5, 8, generator=generator), torch.randn(4, attributes, 3, generator=generator)


def test_it_starts_as_the_identity():
    hidden, condition = _inputs()
    assert torch.equal(_attention()(hidden, condition), hidden)


def test_it_is_the_attention_of_torch_over_attributes_and_sink():
    attention, (hidden, condition) = nudge(_attention(), size=0.5), _inputs()
    reference = torch.nn.MultiheadAttention(8, 2, kdim=3, vdim=3, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        for name, part in zip("qkv", parts, strict=True):
            getattr(reference, f"{name}_proj_weight").copy_(part.weight)
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    reference.out_proj = attention.out
    seen = torch.cat([condition, attention.sink.expand(4, 1, 3)], dim=1)
    expected = hidden + reference(attention.norm(hidden), seen, seen)[0]
    torch.testing.assert_close(attention(hidden, condition), expected)


def test_queries_and_keys_learn_from_a_single_attribute():
    """Without the sink the softmax over one key is 1, and their gradients are exactly 0."""
    attention = nudge(_attention(attributes=1))
    attention(*_inputs(attributes=1)).square().sum().backward()
    assert attention.query.weight.grad.abs().max() > 1e-4
    assert attention.key.weight.grad.abs().max() > 1e-4


def test_tokens_of_a_cell_look_at_its_attributes_each_in_its_own_way():
    """Scaling, shifting or adding by the condition would change all tokens alike."""
    attention, (hidden, condition) = nudge(_attention(), size=0.5), _inputs()
    added = attention(hidden, condition) - hidden  # (batch, tokens, width)
    assert added.std(dim=1).max(dim=-1).values.min() > 0.05


def test_a_token_that_is_near_one_attribute_takes_its_value():
    """With keys far apart the softmax chooses one attribute, of many, for each token."""
    attention = CrossAttentionConditionerConfig(heads=1).build(width=4, attributes=3, condition_width=4)
    for linear in (attention.query, attention.key, attention.value, attention.out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    attention.sink.data.zero_()
    condition = 100 * torch.eye(4)[None, :3]  # (1, attributes, width)
    hidden = torch.eye(4)[None, [2, 0, 1]]  # (1, tokens, width)
    torch.testing.assert_close(attention(hidden, condition) - hidden, condition[:, [2, 0, 1]])


def test_the_order_of_the_attributes_means_nothing():
    attention, (hidden, condition) = nudge(_attention(attributes=3)), _inputs(attributes=3)
    torch.testing.assert_close(attention(hidden, condition[:, [2, 0, 1]]), attention(hidden, condition))


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"heads \(4\) .* must divide the width \(30\)"):
        CrossAttentionConditionerConfig().build(width=30, attributes=1, condition_width=8)
