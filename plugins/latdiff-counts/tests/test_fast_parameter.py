"""Parameters that learn faster, and their prior."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from latdiff_counts.fast_parameter import FastParameter


@pytest.mark.parametrize("rate", [1.0, 10.0])
def test_the_prior_is_a_normal_around_the_start(rate):
    start = torch.tensor([1.0, -2.0, 30.0])
    parameter = FastParameter(start, rate, std=0.7)
    with torch.no_grad():
        parameter.offset.copy_(torch.tensor([0.1, -0.03, 0.2]))
    normal = Normal(start, 0.7)
    expected = (normal.log_prob(parameter()) - normal.log_prob(start)).sum()
    torch.testing.assert_close(parameter.log_prior(), expected)


def test_without_a_prior_nothing_is_more_likely():
    parameter = FastParameter(torch.zeros(3), 10.0)
    with torch.no_grad():
        parameter.offset.fill_(5.0)
    assert parameter.log_prior() == 0
