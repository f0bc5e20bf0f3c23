"""Feature-wise linear modulation."""

from __future__ import annotations

import torch

from latdiff_conditioning import FiLMConditionerConfig
from latdiff_core.testing import ConditionerContract, nudge


class TestFiLMConditioner(ConditionerContract):
    config = FiLMConditionerConfig()


def _film():
    return FiLMConditionerConfig().build(width=8, attributes=2, condition_width=3)


def test_it_starts_as_the_identity():
    """A scale centred on 0 would erase the latent."""
    hidden = torch.randn(4, 5, 8)
    assert torch.equal(_film()(hidden, torch.randn(4, 2, 3)), hidden)


def test_it_scales_around_one_and_shifts_by_the_condition():
    """(1 + scale) hidden + shift, the same for all tokens of a cell."""
    film, hidden, condition = nudge(_film()), torch.randn(4, 5, 8), torch.randn(4, 2, 3)
    weight, bias = film.scale_shift.weight, film.scale_shift.bias
    output = film(hidden, condition)
    for i in range(4):
        modulation = weight @ condition[i].flatten() + bias
        torch.testing.assert_close(output[i], hidden[i] * (1 + modulation[:8]) + modulation[8:])
