"""The condition as a part of the time embedding."""

from __future__ import annotations

import torch

from latdiff_conditioning import AdaLNConditionerConfig
from latdiff_core.testing import ConditionerContract


class TestAdaLNConditioner(ConditionerContract):
    config = AdaLNConditionerConfig()


def _adaln():
    return AdaLNConditionerConfig().build(width=8, attributes=2, condition_width=3)


def test_the_activations_are_left_alone():
    hidden = torch.randn(4, 5, 8)
    assert torch.equal(_adaln()(hidden, torch.randn(4, 2, 3)), hidden)


def test_the_condition_is_added_to_the_time_embedding():
    """The same is added whatever the time, from all attributes of the cell."""
    adaln, time, condition = _adaln(), torch.randn(4, 8), torch.randn(4, 2, 3)
    joined = adaln.join_time(time, condition)
    torch.testing.assert_close(joined - time, adaln.join_time(torch.zeros(4, 8), condition))
    for i in range(4):
        torch.testing.assert_close(joined[i], time[i] + adaln.project(condition[i].flatten()))


def test_the_condition_matters_from_the_start():
    """What it feeds is zero at the start; if it were zero too, the first steps would teach it nothing."""
    assert (_adaln().join_time(torch.zeros(4, 8), torch.randn(4, 2, 3)).norm(dim=-1) > 0.1).all()
