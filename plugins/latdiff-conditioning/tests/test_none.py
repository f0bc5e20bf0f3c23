"""No guidance."""

from __future__ import annotations

import torch

from latdiff_conditioning import NoGuidanceConfig
from latdiff_core.testing import GuidanceContract


class TestNoGuidance(GuidanceContract):
    config = NoGuidanceConfig()


def test_nothing_is_hidden_in_training():
    assert NoGuidanceConfig().build(attributes=["treatment", "dose"]).keep_mask(1000).all()


def test_sampling_is_the_plain_conditional_branch(network):
    denoise, calls = network
    z = NoGuidanceConfig().build(attributes=["treatment", "dose"]).guided(denoise)(torch.zeros(4, 3), torch.ones(4))
    assert torch.equal(z, torch.full((4, 3), 3.0))
    assert calls == [[[True, True]]]
