"""The conformance kit catches what it is made to catch: broken schedules, samplers and guidance, and configs."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from pydantic import field_serializer
from torch import Tensor

from latdiff_core import interfaces, testing

Fault = Literal[
    "none", "batch_mask", "clips", "constant", "exchanges_cells", "forgets_sigma", "forgets_steps", "global_random",
    "half_way", "keeps_noise", "leaks", "lying_rates", "other_on_other_grids", "same_mask", "shape", "swapped",
    "trains_at_one_time", "two_calls",
]  # fmt: skip


class DummyScheduleConfig(interfaces.ScheduleConfig):
    """The straight path, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self):
        return DummySchedule(self.fault)


class DummySchedule(interfaces.Schedule):
    def __init__(self, fault):
        self.fault, self.steps = fault, 1

    def alpha_sigma(self, t):
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        if self.fault == "half_way":
            return 1 - t / 2, t / 2  # the mistake of betas that are not tied to the number of steps
        if self.fault == "other_on_other_grids":
            t = t ** (1 + 1 / self.steps)
        return 1 - t, t.clone()

    def times(self, steps):
        self.steps = steps
        return super().times(steps)

    def sample_times(self, n, generator=None):
        return torch.full((n,), 0.5) if self.fault == "trains_at_one_time" else super().sample_times(n, generator)

    def rates(self, t):
        alpha_rate, sigma_rate = super().rates(t)
        return (alpha_rate, 2 * sigma_rate) if self.fault == "lying_rates" else (alpha_rate, sigma_rate)


class DummySamplerConfig(interfaces.SamplerConfig):
    """Euler with a little noise, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""
    steps: int = 100
    """Steps along the schedule."""

    def build(self):
        return DummySampler(100 if self.fault == "forgets_steps" else self.steps, self.fault)


class DummySampler(interfaces.Sampler):
    def __init__(self, steps, fault):
        self.steps, self.fault = steps, fault

    def sample(self, denoise, noise, schedule, generator=None):
        times = schedule.times(self.steps)
        times = times[:-50] if self.fault == "keeps_noise" else times
        alphas, sigmas = schedule.alpha_sigma(times)
        noise = noise - noise.mean(0) if self.fault == "leaks" and len(noise) > 1 else noise
        z = noise.double() if self.fault == "forgets_sigma" else sigmas[0] * noise.double()
        for i in range(len(times) - 1):
            clean = denoise(z, times[i].expand(len(z)))
            clean = clean.clamp(-5, 5) if self.fault == "clips" else clean  # as images are, and latents must not be
            eps = (z - alphas[i] * clean) / sigmas[i]
            if self.fault == "global_random":
                eps = eps + 0.01 * torch.randn(eps.shape).to(eps)
            z = alphas[i + 1] * clean + sigmas[i + 1] * eps
        z = z.mean(0, keepdim=True) if self.fault == "shape" else z
        z = z.flip(0) if self.fault == "exchanges_cells" else z
        return z.to(noise)


class DummyGuidanceConfig(interfaces.GuidanceConfig):
    """Plain classifier-free guidance, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self, *, attributes):
        return DummyGuidance(len(attributes), self.fault)


class DummyGuidance(interfaces.Guidance):
    def __init__(self, attributes, fault):
        self.attributes, self.fault = attributes, fault

    def keep_mask(self, batch, generator=None):
        if self.fault == "batch_mask":  # mistake B24: one mask for all cells
            return torch.rand(1, self.attributes, generator=generator) > 0.1
        generator = None if self.fault == "global_random" else generator
        generator = torch.Generator().manual_seed(0) if self.fault == "same_mask" else generator
        return torch.rand(batch, self.attributes, generator=generator) > 0.1

    def guided(self, denoise):
        keep = torch.tensor([[True] * self.attributes, [False] * self.attributes], dtype=torch.bool)

        def guided_denoise(z_t: Tensor, t: Tensor) -> Tensor:
            if self.fault == "two_calls":  # mistake B27
                conditional, unconditional = denoise(z_t, t, keep[:1])[0], denoise(z_t, t, keep[1:])[0]
            else:
                conditional, unconditional = denoise(z_t, t, keep)
            if self.fault == "swapped":
                conditional, unconditional = unconditional, conditional
            if self.fault == "leaks":
                conditional = unconditional + (conditional - unconditional).mean(0)
            if self.fault == "constant":
                conditional = 1.1 * conditional
            return unconditional + 2 * (conditional - unconditional)

        return guided_denoise


class ForgetfulConfig(interfaces.ScheduleConfig):
    """A config that does not survive dumping and loading."""

    kind: Literal["forgetful"] = "forgetful"
    power: float = 2.0
    """A number."""

    @field_serializer("power")
    def _rounded(self, power: float) -> float:
        return float(round(power))

    def build(self):
        return DummySchedule("none")


class UndescribedConfig(interfaces.ScheduleConfig):
    """A config with a field that says nothing of itself."""

    kind: Literal["undescribed"] = "undescribed"
    power: float = 2.0

    def build(self):
        return DummySchedule("none")


BATCH = "test_a_cell_alone_gives_the_same_as_in_a_batch"
FAILURES = (AssertionError, RuntimeError, IndexError, ValueError, pytest.fail.Exception)
FAULTS: dict[tuple[type[testing.ComponentContract], type[interfaces.ComponentConfig]], list[tuple[Fault, str]]] = {
    (testing.ScheduleContract, DummyScheduleConfig): [
        ("lying_rates", "test_the_rates_are_the_derivatives"),
        ("half_way", "test_it_ends_in_noise"),
        ("other_on_other_grids", "test_it_is_the_same_function_on_every_grid"),
        ("trains_at_one_time", "test_training_times_are_in_range_and_follow_the_seed"),
        ("trains_at_one_time", "test_training_sees_what_sampling_asks_for"),
    ],
    (testing.SamplerContract, DummySamplerConfig): [
        ("global_random", "test_the_same_seed_gives_the_same_latents"),
        ("keeps_noise", "test_it_reaches_a_normal_distribution"),
        ("shape", "test_shape_and_dtype_are_those_of_the_noise"),
        ("exchanges_cells", "test_every_cell_becomes_what_is_asked_for_it"),
        ("clips", "test_every_cell_becomes_what_is_asked_for_it"),
        ("forgets_steps", "test_more_steps_are_more_calls"),
        ("forgets_sigma", "test_it_starts_from_the_given_noise_at_the_size_of_the_schedule"),
        ("leaks", "test_a_cell_alone_gives_the_same_as_in_a_batch_unless_latents_are_drawn"),
    ],
    (testing.GuidanceContract, DummyGuidanceConfig): [
        ("batch_mask", "test_the_keep_mask_is_per_cell_and_per_attribute"),
        ("global_random", "test_the_keep_mask_follows_the_seed"),
        ("two_calls", "test_every_evaluation_is_one_call_of_the_network"),
        ("constant", "test_a_condition_without_effect_is_left_without_effect"),
        ("swapped", "test_every_condition_moves_its_own_cell_and_in_its_own_direction"),
        ("leaks", "test_every_condition_moves_its_own_cell_and_in_its_own_direction"),
        ("leaks", BATCH),
        ("same_mask", "test_the_keep_mask_follows_the_seed"),
    ],
}
BROKEN = [
    pytest.param(contract, config(fault=fault), check, id=f"{config.__name__}-{fault}-{check}")
    for (contract, config), faults in FAULTS.items()
    for fault, check in faults
]
BROKEN += [
    pytest.param(
        testing.ScheduleContract,
        ForgetfulConfig(power=1.5),
        "test_the_config_survives_dumping_and_loading",
        id="forgetful",
    ),
    pytest.param(
        testing.ScheduleContract, UndescribedConfig(), "test_every_field_of_the_config_is_described", id="undescribed"
    ),
]


@pytest.mark.parametrize(("contract", "config", "check"), BROKEN)
def test_a_broken_part_fails_the_check_made_for_it(checks, contract, config, check):
    with pytest.raises(FAILURES):
        checks(contract, config)[check]()


@pytest.mark.parametrize(("contract", "config"), FAULTS, ids=str)
def test_the_same_part_without_the_fault_passes_every_check(checks, contract, config):
    for check in checks(contract, config()).values():
        check()
