"""Classifier-free guidance at middle noise levels only."""

from __future__ import annotations

import pytest
import torch

from latdiff_conditioning import ClassifierFreeGuidanceConfig, IntervalGuidanceConfig
from latdiff_core.testing import GuidanceContract

BOTH, CONDITIONAL = [[True, True], [False, False]], [[True, True]]


class TestIntervalGuidance(GuidanceContract):
    config = IntervalGuidanceConfig()


class TestIntervalGuidanceOutsideItsInterval(GuidanceContract):
    config = IntervalGuidanceConfig(drop=0.5, scale=3.0, low=0.6, high=1.0)


def _guided(denoise, **fields):
    return IntervalGuidanceConfig(**{"scale": 2.0} | fields).build(attributes=["treatment", "dose"]).guided(denoise)


def test_by_default_the_conditions_are_stressed():
    """With a scale of 1 the interval would mean nothing."""
    assert IntervalGuidanceConfig().scale > 1


def test_every_cell_is_guided_by_its_own_time(network):
    """3 with the condition and 1 without: 5 inside the interval, both of its ends included, and 3 outside."""
    denoise, calls = network
    t = torch.tensor([0.0, 0.19, 0.2, 0.5, 0.8, 0.81, 1.0])
    z = _guided(denoise)(torch.zeros(7, 2), t)
    assert torch.equal(z, torch.tensor([3.0, 3, 5, 5, 5, 3, 3]).unsqueeze(-1).expand(7, 2))
    assert calls == [BOTH]


@pytest.mark.parametrize(("t", "branches"), [(0.1, CONDITIONAL), (0.5, BOTH), (0.9, CONDITIONAL)])
def test_where_no_cell_is_inside_only_the_conditional_branch_is_computed(network, t, branches):
    denoise, calls = network
    _guided(denoise)(torch.zeros(4, 3), torch.full((4,), t))
    assert calls == [branches]


@pytest.mark.parametrize("t", [0.0, 0.2, 1.0])
def test_an_interval_of_all_times_is_classifier_free_guidance(network, t):
    denoise, _ = network
    inputs = torch.zeros(4, 3), torch.full((4,), t)
    everywhere = ClassifierFreeGuidanceConfig(scale=2.0).build(attributes=["treatment", "dose"]).guided(denoise)
    assert torch.equal(_guided(denoise, low=0.0, high=1.0)(*inputs), everywhere(*inputs))


def test_a_scale_of_one_is_the_plain_conditional_model_without_an_unconditional_branch(network):
    denoise, calls = network
    z = _guided(denoise, scale=1.0)(torch.zeros(4, 3), torch.full((4,), 0.5))
    assert torch.equal(z, torch.full((4, 3), 3.0))
    assert calls == [CONDITIONAL]


def test_training_hides_what_classifier_free_guidance_hides():
    masks = [
        config(drop=0.3).build(attributes=["treatment", "dose"]).keep_mask(1000, torch.Generator().manual_seed(0))
        for config in (IntervalGuidanceConfig, ClassifierFreeGuidanceConfig)
    ]
    assert torch.equal(*masks)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.8, 0.2)])
def test_an_empty_interval_is_refused(low, high):
    with pytest.raises(ValueError, match=rf"low \({low}\) must be below high \({high}\)"):
        IntervalGuidanceConfig(low=low, high=high)
