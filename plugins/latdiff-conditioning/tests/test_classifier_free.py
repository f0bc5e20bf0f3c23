"""Classifier-free guidance."""

from __future__ import annotations

import pytest
import torch

from latdiff_conditioning import ClassifierFreeGuidanceConfig
from latdiff_core.prediction import to_clean
from latdiff_core.testing import GuidanceContract


class TestClassifierFreeGuidance(GuidanceContract):
    config = ClassifierFreeGuidanceConfig()


class TestStrongClassifierFreeGuidance(GuidanceContract):
    config = ClassifierFreeGuidanceConfig(drop=0.5, scale=3.0)


def _keep(drop, attributes, batch=40_000):
    guidance = ClassifierFreeGuidanceConfig(drop=drop).build(attributes=["treatment", "dose", "donor"][:attributes])
    return guidance.keep_mask(batch, torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.4])
def test_a_single_attribute_is_dropped_as_often_as_asked(drop):
    assert 1 - _keep(drop, 1).mean().item() == pytest.approx(drop, abs=0.01)


@pytest.mark.parametrize("drop", [0.1, 0.4])
def test_several_attributes_are_dropped_one_by_one_and_together(drop):
    """Each survives its own draw and the draw for all; all are gone with the second's probability or by chance."""
    keep = _keep(drop, 3)
    assert keep.mean(0).tolist() == pytest.approx([(1 - drop) ** 2] * 3, abs=0.01)
    nothing = (keep.sum(1) == 0).float().mean().item()
    assert nothing == pytest.approx(drop + (1 - drop) * drop**3, abs=0.01)
    only_first = ((keep[:, 0] == 0) & (keep[:, 1:] == 1).all(1)).float().mean().item()
    assert only_first == pytest.approx((1 - drop) ** 3 * drop, abs=0.01)


def test_cells_are_dropped_independently_of_each_other():
    """One mask for the whole batch would make neighbours agree always."""
    keep = _keep(0.4, 1).flatten()
    assert torch.corrcoef(torch.stack([keep[:-1], keep[1:]]))[0, 1].abs() < 0.02


def test_the_default_scale_is_the_plain_conditional_model_without_an_unconditional_branch(network):
    """A scale made for images moves the mean of a mixture by 0.65 standard deviations."""
    denoise, calls = network
    config = ClassifierFreeGuidanceConfig()
    assert config.scale == 1.0
    z = config.build(attributes=["treatment", "dose"]).guided(denoise)(torch.zeros(4, 3), torch.ones(4))
    assert torch.equal(z, torch.full((4, 3), 3.0))
    assert calls == [[[True, True]]]


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guidance_extrapolates_from_unconditional_to_conditional_in_one_call(network, scale):
    denoise, calls = network
    guidance = ClassifierFreeGuidanceConfig(scale=scale).build(attributes=["treatment", "dose"])
    z = guidance.guided(denoise)(torch.zeros(4, 3), torch.ones(4))
    torch.testing.assert_close(z, torch.full((4, 3), 1.0 + scale * (3.0 - 1.0)))
    assert calls == [[[True, True], [False, False]]]


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_guiding_the_clean_latent_is_guiding_the_prediction(prediction):
    """eps_u + w (eps_c - eps_u), turned into the clean latent, is what guidance gives; so for every prediction."""
    generator = torch.Generator().manual_seed(0)
    z_t, conditional, unconditional = torch.randn(3, 4, 3, generator=generator, dtype=torch.float64)
    alpha, sigma, scale = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64), 2.5

    def clean(output):
        return to_clean(prediction, output, z_t, alpha, sigma)

    def denoise(z_t, t, keep):
        return torch.stack([clean(conditional), clean(unconditional)])

    guided = ClassifierFreeGuidanceConfig(scale=scale).build(attributes=["dose"]).guided(denoise)
    torch.testing.assert_close(guided(z_t, torch.ones(4)), clean(unconditional + scale * (conditional - unconditional)))


def test_dropping_everything_is_refused():
    with pytest.raises(ValueError, match="less than 1"):
        ClassifierFreeGuidanceConfig(drop=1.0)
