"""What every sampler promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import CircleSchedule, ExplodingSchedule, StraightSchedule


class SamplerContract(ComponentContract):
    """The contract of ``Sampler``, along a straight and along a curved schedule.

    Attributes
    ----------
    tolerance
        Largest error of mean and standard deviation with the exact denoiser of a normal distribution;
        the number of steps in ``config`` decides what can be asked for.
    """

    config: SamplerConfig
    schedules: tuple[Schedule, ...] = (StraightSchedule(), CircleSchedule())
    tolerance: float = 0.05

    def build(self) -> Sampler:
        """Make the sampler."""
        return self.config.build()

    def noise(self, cells: int = 8, dim: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws, the same at every call."""
        return torch.randn(cells, dim, generator=torch.Generator().manual_seed(1)).to(dtype)

    def exact_denoise(self, schedule: Schedule, mean: float | Tensor, std: float) -> Denoise:
        """The expected clean latent given ``z_t``, where coordinates are N(mean, std^2); one mean, or one per cell."""

        def denoise(z_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = (s.to(z_t).unsqueeze(-1) for s in schedule.alpha_sigma(t.double()))
            gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
            return mean + gain * (z_t - alpha * mean)

        return denoise

    def test_it_reaches_a_single_point(self) -> None:
        """Where all data are one point, every sample is that point."""
        for schedule in self.schedules:
            z = self.build().sample(self.exact_denoise(schedule, 3.0, 0.0), self.noise(), schedule)
            torch.testing.assert_close(z, torch.full_like(z, 3.0), rtol=0, atol=1e-4)

    def test_it_reaches_a_normal_distribution(self) -> None:
        """With the exact denoiser of a normal distribution, the samples have its mean and standard deviation."""
        noise = self.noise(40_000, 1)
        noise = (noise - noise.mean()) / noise.std()
        for schedule in self.schedules:
            denoise, generator = self.exact_denoise(schedule, 1.0, 0.5), torch.Generator().manual_seed(0)
            z = self.build().sample(denoise, noise, schedule, generator)
            assert abs(z.mean().item() - 1.0) < self.tolerance
            assert abs(z.std().item() - 0.5) < self.tolerance

    def test_every_cell_becomes_what_is_asked_for_it(self) -> None:
        """Where the latent of each cell is one point, and another for each, every sample is the point of its cell."""
        points = 10 * (torch.arange(8.0).unsqueeze(-1) - 4)  # also of cells far out, which clipping would bring back
        for schedule in self.schedules:
            z = self.build().sample(self.exact_denoise(schedule, points, 0.0), self.noise(), schedule)
            torch.testing.assert_close(z, points.expand_as(z), rtol=1e-4, atol=1e-4)

    def test_it_starts_from_the_given_noise_at_the_size_of_the_schedule(self) -> None:
        """The network is first asked at sigma(1) x noise."""
        for schedule in (*self.schedules, ExplodingSchedule()):
            seen: list[Tensor] = []
            exact = self.exact_denoise(schedule, 1.0, 0.5)

            def watched(z_t: Tensor, t: Tensor, seen: list[Tensor] = seen, exact: Denoise = exact) -> Tensor:
                seen.append(z_t.clone())
                return exact(z_t, t)

            self.build().sample(watched, self.noise(), schedule, torch.Generator().manual_seed(0))
            _, sigma = schedule.alpha_sigma(torch.ones(1))
            torch.testing.assert_close(seen[0].float(), sigma.float() * self.noise())

    def test_a_cell_alone_gives_the_same_as_in_a_batch_unless_latents_are_drawn(self) -> None:
        """Where the generator changes nothing, no cell sees the noise of another cell."""
        for schedule in self.schedules:
            denoise = self.exact_denoise(schedule, 1.0, 0.5)
            first, other = (
                self.build().sample(denoise, self.noise(), schedule, torch.Generator().manual_seed(s)) for s in (0, 1)
            )
            if torch.equal(first, other):
                for i in range(8):
                    alone = self.build().sample(denoise, self.noise()[i : i + 1], schedule)
                    torch.testing.assert_close(alone, first[i : i + 1])

    def test_the_same_seed_gives_the_same_latents(self) -> None:
        """Noise and generator state decide the result, and the given noise is left as it was."""
        schedule, noise = self.schedules[0], self.noise()
        denoise = self.exact_denoise(schedule, 1.0, 0.5)
        first, again = (
            self.build().sample(denoise, noise, schedule, torch.Generator().manual_seed(0)) for _ in range(2)
        )
        assert torch.equal(first, again)
        assert torch.equal(noise, self.noise())

    def test_shape_and_dtype_are_those_of_the_noise(self) -> None:
        """One cell or several, in float32 or float64, come back as they came in."""
        schedule = self.schedules[0]
        denoise = self.exact_denoise(schedule, 1.0, 0.5)
        for cells, dtype in ((1, torch.float32), (8, torch.float64)):
            z = self.build().sample(denoise, self.noise(cells, dtype=dtype), schedule)
            assert z.shape == (cells, 3)
            assert z.dtype == dtype

    def test_the_network_is_asked_at_one_time_per_cell(self) -> None:
        """Every call of ``denoise`` has times of shape (batch,) in (0, 1], starting at 1."""
        for schedule in self.schedules:
            times: list[Tensor] = []
            exact = self.exact_denoise(schedule, 1.0, 0.5)

            def watched(z_t: Tensor, t: Tensor, times: list[Tensor] = times, exact: Denoise = exact) -> Tensor:
                times.append(t)
                return exact(z_t, t)

            self.build().sample(watched, self.noise(), schedule)
            calls = torch.stack(times)  # (calls, batch)
            assert calls.shape[1] == 8
            assert (calls[0] == 1).all()
            assert ((calls > 0) & (calls <= 1)).all()

    def test_more_steps_are_more_calls(self) -> None:
        """Of a sampler whose config has ``steps``, twice as many ask the network more often, and each once at least."""
        if "steps" not in type(self.config).model_fields:
            pytest.skip("its config has no steps")
        schedule, calls = self.schedules[0], []
        exact = self.exact_denoise(schedule, 1.0, 0.5)
        for steps in (4, 8):
            times: list[Tensor] = []

            def watched(z_t: Tensor, t: Tensor, times: list[Tensor] = times) -> Tensor:
                times.append(t)
                return exact(z_t, t)

            config = self.config.model_copy(update={"steps": steps})
            config.build().sample(watched, self.noise(), schedule, torch.Generator().manual_seed(0))
            calls.append(len(times))
        assert 4 <= calls[0] < calls[1]

    def test_far_away_noise_gives_finite_latents(self) -> None:
        """Noise ten standard deviations out still ends in finite latents."""
        for schedule in self.schedules:
            z = self.build().sample(self.exact_denoise(schedule, 1.0, 0.5), 10 * self.noise(), schedule)
            assert z.isfinite().all()
