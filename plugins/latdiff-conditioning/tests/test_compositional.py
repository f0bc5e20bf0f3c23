"""Guidance by each attribute on its own."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from latdiff_conditioning import CompositionalGuidanceConfig
from latdiff_core.errors import ConfigError
from latdiff_core.testing import GuidanceContract, StraightSchedule

NAMES = ["treatment", "dose", "donor"]


class TestCompositionalGuidance(GuidanceContract):
    config = CompositionalGuidanceConfig()


class TestCompositionalGuidanceOfUnequalWeights(GuidanceContract):
    config = CompositionalGuidanceConfig(weights={"a0": 2.0, "a1": -0.5}, scale=1.5, drop=0.2, alone=0.8)
    attribute_counts = (2, 5)
    repelled = ("a1",)


@pytest.mark.parametrize(("drop", "alone"), [(0.1, 0.5), (0.0, 0.3), (0.3, 0.7)])
def test_cells_keep_nothing_one_attribute_or_everything_in_the_shares_asked_for(drop, alone):
    guidance = CompositionalGuidanceConfig(drop=drop, alone=alone).build(attributes=NAMES)
    keep = guidance.keep_mask(40_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(keep.sum(1), minlength=4) / len(keep)
    assert shares.tolist() == pytest.approx([drop, alone, 0, 1 - drop - alone], abs=0.01)
    single = keep[keep.sum(1) == 1].float().mean(0)
    assert single.tolist() == pytest.approx([1 / 3] * 3, abs=0.015)


def test_a_single_attribute_is_dropped_as_often_as_asked():
    keep = CompositionalGuidanceConfig(drop=0.2).build(attributes=["dose"]).keep_mask(40_000)
    assert 1 - keep.float().mean().item() == pytest.approx(0.2, abs=0.01)


@pytest.fixture
def network():
    """A denoiser whose clean latent is 1 plus 2, 4 or 8 for the first, second or third attribute, and its calls."""
    calls = []

    def denoise(z_t, t, keep):
        calls.append(keep.tolist())
        added = keep.to(z_t) @ torch.tensor([2.0, 4.0, 8.0]).to(z_t)[: keep.shape[1]]
        return 1 + added.view(-1, 1, 1).expand(-1, *z_t.shape)

    return denoise, calls


@pytest.mark.parametrize(
    ("weights", "scale", "expected"),
    [
        ({}, 1.0, 1 + 2 + 4 + 8),
        ({}, 2.0, 1 + 4 + 8 + 16),
        ({"dose": 0.5}, 1.0, 1 + 2 + 2 + 8),
        ({"treatment": 3.0, "donor": -1.0}, 1.5, 1 + 6 + 6 - 8),
    ],
)
def test_each_attribute_counts_by_its_own_weight_in_one_call(network, weights, scale, expected):
    denoise, calls = network
    guidance = CompositionalGuidanceConfig(weights=weights, scale=scale).build(attributes=NAMES)
    z = guidance.guided(denoise)(torch.zeros(4, 5), torch.ones(4))
    torch.testing.assert_close(z, torch.full((4, 5), float(expected)))
    assert calls == [[[False] * 3, [True, False, False], [False, True, False], [False, False, True]]]


@pytest.mark.parametrize(
    ("weights", "branches"),
    [
        ({}, [[True]]),
        ({"dose": 2.0}, [[False], [True]]),
        ({"dose": 0.0}, [[False]]),
    ],
)
def test_a_branch_that_counts_for_nothing_is_not_computed(network, weights, branches):
    """One attribute of weight 1 is the plain conditional model."""
    denoise, calls = network
    CompositionalGuidanceConfig(weights=weights).build(attributes=["dose"]).guided(denoise)(
        torch.zeros(4, 5), torch.ones(4)
    )
    assert calls == [branches]


def _posterior_mean(mean, variance, z_t, t):
    """The clean latent of normal data of independent dimensions, along the straight path."""
    alpha, sigma = (s.unsqueeze(-1) for s in StraightSchedule().alpha_sigma(t))
    return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (z_t - alpha * mean)


NOISY = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TIMES = torch.linspace(0.02, 1, 50, dtype=torch.float64)
PAIR = torch.tensor([5.0, -4.0], dtype=torch.float64)
SPREAD, WITHIN = 2.0, 0.3
"""Variance of the attributes' effects over all cells, and of the cells among their like."""


def test_attributes_that_shift_directions_of_their_own_compose_to_the_exact_pair():
    """Each branch knows one attribute at most, and the pair lies where no two attributes were ever seen together."""

    def denoise(z_t, t, keep):
        shift = torch.cat([keep * PAIR, torch.zeros(len(keep), 1, dtype=torch.bool)], dim=-1)
        unknown = torch.cat([~keep, torch.zeros(len(keep), 1, dtype=torch.bool)], dim=-1)
        return torch.stack(
            [_posterior_mean(m, WITHIN + SPREAD * u, z_t, t) for m, u in zip(shift, unknown, strict=True)]
        )

    composed = CompositionalGuidanceConfig().build(attributes=NAMES[:2]).guided(denoise)(NOISY, TIMES)
    exact = _posterior_mean(torch.cat([PAIR, torch.zeros(1).double()]), torch.tensor(WITHIN), NOISY, TIMES)
    torch.testing.assert_close(composed, exact)


def test_attributes_that_shift_the_same_direction_do_not_compose():
    """They are not independent given the cell: two causes of one effect explain each other away."""

    def denoise(z_t, t, keep):
        shifts, unknown = (keep * PAIR).sum(-1), (~keep).sum(-1)
        return torch.stack(
            [_posterior_mean(m, WITHIN + SPREAD * u, z_t, t) for m, u in zip(shifts, unknown, strict=True)]
        )

    composed = CompositionalGuidanceConfig().build(attributes=NAMES[:2]).guided(denoise)(NOISY, TIMES)
    exact = _posterior_mean(PAIR.sum(), torch.tensor(WITHIN), NOISY, TIMES)
    assert (composed - exact).abs().max() > 0.1


@pytest.mark.parametrize(("missing", "reached"), [(False, 1.0), (True, 2 / 3)])
def test_a_combination_that_is_missing_among_few_is_approached_and_not_reached(missing, reached):
    """At pure noise every branch gives the mean of the training cells that it knows of.

    Without the fourth combination of two by two, the first attribute is never seen with the second, so that seeing
    one of them tells that the other is absent.
    """
    seen = torch.tensor([pair for pair in product([0.0, 1.0], repeat=2) if not (missing and all(pair))])

    def denoise(z_t, t, keep):
        means = [seen[(seen[:, branch] == 1).all(-1)].mean(0) for branch in keep]
        return torch.stack(means).unsqueeze(1).expand(-1, len(z_t), -1)

    composed = CompositionalGuidanceConfig().build(attributes=NAMES[:2]).guided(denoise)
    torch.testing.assert_close(composed(torch.zeros(1, 2), torch.ones(1)), torch.full((1, 2), reached))


def test_a_weight_of_an_unknown_attribute_is_refused_with_the_nearest_name():
    config = CompositionalGuidanceConfig(weights={"treatmnt": 2.0})
    with pytest.raises(ConfigError, match="'treatmnt', which is not a condition; did you mean 'treatment'"):
        config.build(attributes=NAMES)


def test_a_weight_without_any_attribute_is_refused():
    with pytest.raises(ConfigError, match="none exist"):
        CompositionalGuidanceConfig(weights={"dose": 2.0}).build(attributes=[])


def test_more_than_all_cells_are_refused():
    with pytest.raises(ValueError, match=r"drop \(0.6\) and alone \(0.5\) must not add up to more than 1"):
        CompositionalGuidanceConfig(drop=0.6, alone=0.5)


def test_an_infinite_weight_is_refused():
    with pytest.raises(ValueError, match="finite"):
        CompositionalGuidanceConfig(weights={"dose": float("inf")})
