"""What every schedule promises."""

from __future__ import annotations

import torch

from latdiff_core.interfaces import Schedule, ScheduleConfig
from latdiff_core.interfaces.schedule import SIGNAL_LEFT
from latdiff_core.testing.component import ComponentContract


class ScheduleContract(ComponentContract):
    """The contract of ``Schedule``."""

    config: ScheduleConfig

    def build(self) -> Schedule:
        """Make the schedule."""
        return self.config.build()

    def test_it_begins_at_the_data(self) -> None:
        """alpha(0) = 1 and sigma(0) = 0, exactly."""
        alpha, sigma = self.build().alpha_sigma(torch.zeros(1))
        assert (alpha.item(), sigma.item()) == (1.0, 0.0)

    def test_it_ends_in_noise(self) -> None:
        """At t = 1 hardly any signal is left beside the noise, where sampling starts from noise alone."""
        alpha, sigma = self.build().alpha_sigma(torch.ones(1))
        assert alpha / sigma < SIGNAL_LEFT

    def test_signal_falls_and_noise_rises(self) -> None:
        """alpha never rises and sigma always rises, both finite, over the whole of [0, 1]."""
        alpha, sigma = self.build().alpha_sigma(torch.linspace(0, 1, 2001, dtype=torch.float64))
        assert alpha.isfinite().all()
        assert (alpha.diff() <= 0).all()
        assert (sigma.diff() > 0).all()

    def test_the_rates_are_the_derivatives(self) -> None:
        """``rates`` are the slopes of alpha and sigma, measured by central differences."""
        schedule, step = self.build(), 1e-5
        t = torch.tensor([0.0512, 0.2503, 0.5004, 0.7505, 0.9506], dtype=torch.float64)
        for rate, before, after in zip(
            schedule.rates(t), schedule.alpha_sigma(t - step), schedule.alpha_sigma(t + step), strict=True
        ):
            assert rate.shape == t.shape
            torch.testing.assert_close(rate.double(), (after - before).double() / (2 * step), rtol=1e-3, atol=1e-4)

    def test_the_rates_can_be_had_while_gradients_are_off(self) -> None:
        """Samplers ask for ``rates`` where no gradient is recorded; what they get records none either."""
        t = torch.full((3,), 0.5, dtype=torch.float64)
        expected = torch.stack(self.build().rates(t))
        assert not expected.requires_grad
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                assert torch.equal(torch.stack(self.build().rates(t)), expected)

    def test_it_works_in_float32_or_better(self) -> None:
        """Half precision times give float32, and float64 times give float64: the first steps need the digits."""
        for given in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            expected = torch.promote_types(given, torch.float32)
            t = torch.tensor([0.0, 0.001, 0.25, 1.0], dtype=given)
            exact = self.build().alpha_sigma(t.double())
            for value, reference in zip(self.build().alpha_sigma(t), exact, strict=True):
                assert value.dtype == expected
                torch.testing.assert_close(value.double(), reference, rtol=1e-6, atol=1e-7)

    def test_the_shape_of_the_times_is_kept(self) -> None:
        """A scalar, a vector or a matrix of times gives alpha and sigma in the same shape."""
        for shape in ((), (3,), (2, 3)):
            alpha, sigma = self.build().alpha_sigma(torch.full(shape, 0.5))
            assert alpha.shape == sigma.shape == shape

    def test_the_grid_goes_from_noise_to_data_in_any_number_of_steps(self) -> None:
        """``times(steps)`` is float64, steps + 1 long, and falls strictly from 1 to 0."""
        for steps in (1, 2, 7, 50, 1000):
            times = self.build().times(steps)
            assert times.shape == (steps + 1,)
            assert times.dtype == torch.float64
            assert (times[0].item(), times[-1].item()) == (1.0, 0.0)
            assert (times.diff() < 0).all()

    def test_it_is_the_same_function_on_every_grid(self) -> None:
        """alpha and sigma at a time depend on that time only, however many steps are taken around it."""
        schedule = self.build()
        t = torch.tensor([0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
        before = torch.stack(schedule.alpha_sigma(t))
        for steps in (5, 10, 100):
            grid = schedule.times(steps)
            on_grid = torch.stack(schedule.alpha_sigma(grid))
            alone = torch.stack([torch.stack(schedule.alpha_sigma(time)) for time in grid], dim=1)
            torch.testing.assert_close(on_grid, alone, rtol=1e-9, atol=1e-12)  # several at once may round otherwise
        assert torch.equal(torch.stack(schedule.alpha_sigma(t)), before)

    def test_training_times_are_in_range_and_follow_the_seed(self) -> None:
        """Times to train at are in (0, 1], weighted by finite positive numbers; the seed alone decides them."""
        schedule = self.build()
        first, again, other = (schedule.sample_times(500, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.shape == (500,)
        assert ((first > 0) & (first <= 1)).all()
        weight = schedule.loss_weight(first)
        assert weight.shape == (500,)
        assert (weight.isfinite() & (weight > 0)).all()

    def test_training_sees_what_sampling_asks_for(self) -> None:
        """Of 10,000 times to train at some lie beyond the second of a grid of four, and some before its third."""
        schedule = self.build()
        drawn, grid = schedule.sample_times(10_000, torch.Generator().manual_seed(0)), schedule.times(4)
        assert drawn.max() >= grid[1]
        assert drawn.min() <= grid[2]
