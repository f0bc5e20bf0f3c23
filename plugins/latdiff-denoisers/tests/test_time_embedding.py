"""The embedding of diffusion time."""

from __future__ import annotations

import pytest
import torch

from latdiff_denoisers.time_embedding import TimeEmbedding, sinusoid


@pytest.mark.parametrize("frequencies", [1, 2, 3, 128])
def test_a_sinusoid_of_any_size_is_finite_and_of_that_size(frequencies):
    """Dividing by (half width - 1), or halving an odd width, gives nan or one value too few."""
    embedded = sinusoid(torch.tensor([0.0, 0.5, 1.0]), frequencies)
    assert embedded.shape == (3, 2 * frequencies)
    assert embedded.isfinite().all()


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64])
def test_any_width_can_be_embedded_odd_or_tiny(width):
    embedded = TimeEmbedding(width)(torch.tensor([0.0, 1.0]))
    assert embedded.shape == (2, width)
    assert embedded.isfinite().all()


def test_neighbouring_times_of_a_thousand_steps_are_told_apart_and_stay_neighbours():
    """Next to each other is nearer than ten steps apart, everywhere in [0, 1]."""
    embedded = sinusoid(torch.arange(1001) / 1000)
    one, ten = ((embedded[k:] - embedded[:-k]).norm(dim=-1) for k in (1, 10))
    assert one.min() > 0.1
    assert one.max() < ten.min()


def test_the_sinusoid_of_a_half_precision_time_is_computed_in_float32():
    """In bfloat16 an angle of a thousand radians is wrong by whole radians."""
    t = (torch.arange(1001) / 1000).bfloat16()
    assert torch.equal(sinusoid(t), sinusoid(t.float()))
