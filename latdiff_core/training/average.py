"""The exponential moving average of the weights, which is what sampling uses."""

from __future__ import annotations

from torch import Tensor


class ExponentialAverage:
    """The rule average <- average + (1 - decay) (weights - average), with a decay that rises to the given one.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that a short training is not an average over the
    untrained weights it began with.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, average: Tensor, weights: Tensor, updates: Tensor | int) -> Tensor:
        """The new average of one parameter, in its shape."""
        n = int(updates)
        return average.lerp(weights, 1 - min(self.decay, (1 + n) / (10 + n)))
