"""Concatenation of the condition."""

from __future__ import annotations

import torch

from latdiff_conditioning import ConcatConditionerConfig
from latdiff_core.testing import ConditionerContract, nudge


class TestConcatConditioner(ConditionerContract):
    config = ConcatConditionerConfig()


def _concat():
    return ConcatConditionerConfig().build(width=8, attributes=2, condition_width=3)


def test_it_starts_as_the_identity():
    hidden = torch.randn(4, 5, 8)
    assert torch.equal(_concat()(hidden, torch.randn(4, 2, 3)), hidden)


def test_it_is_a_projection_of_token_and_condition_side_by_side():
    """Every token of a cell is joined with the same condition, all attributes of it."""
    concat, hidden, condition = nudge(_concat()), torch.randn(4, 5, 8), torch.randn(4, 2, 3)
    output = concat(hidden, condition)
    for i in range(4):
        for j in range(5):
            joined = torch.cat([hidden[i, j], condition[i].flatten()])
            torch.testing.assert_close(output[i, j], hidden[i, j] + concat.project(joined))
