"""The exponential moving average of the weights, which is what is kept of a training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class ExponentialAverage:
    """The rule average <- average + (1 - decay) (weights - average), with a decay that rises to the given one.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that a short training is not an average over the
    untrained weights it began with.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        """Update the averages of all parameters, each in its shape, in place."""
        n = int(updates)
        share = 1 - min(self.decay, (1 + n) / (10 + n))
        for average, new in zip(averages, weights, strict=True):
            average.lerp_(new, share)
