"""The conformance kit catches what it is made to catch: deliberately broken parts fail the check made for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from pydantic import field_serializer
from torch import Tensor, nn
from torch.distributions import Normal

from latdiff_core import interfaces, testing
from latdiff_core.errors import require_shape

Fault = Literal[
    "none", "leaks", "shape", "constant", "unbounded", "ignores_nuisance", "sum", "fractions", "global_random",
    "broadcasts_library", "lying_rates", "keeps_noise", "other_on_other_grids", "half_way", "two_calls", "batch_mask",
    "ignores_the_condition", "replaces", "forgets_statistics", "undefined_at_average",
    "dropout", "ignores_time", "forgets_joined_time", "unused_weight", "exchanges_cells", "forgets_sigma", "swapped",
    "same_mask", "trains_at_one_time", "too_many", "detached", "prior_of_the_wrong_sign",
]  # fmt: skip


class DummyEncoderConfig(interfaces.EncoderConfig):
    """A linear encoder, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self, *, sizes, statistics):
        return DummyEncoder(sizes, self.fault)


class DummyEncoder(interfaces.Encoder):
    def __init__(self, sizes, fault):
        super().__init__()
        self.fault = fault
        self.net = nn.Linear(sizes.genes + sizes.nuisance, 2 * sizes.latent_dim)
        self.idle = nn.Linear(1, 1) if fault == "unused_weight" else None

    def forward(self, counts, covariates):
        inputs = torch.cat([counts.log1p_normalised(), covariates.nuisance], -1).to(self.net.weight.dtype)
        if self.fault == "ignores_nuisance":
            inputs = torch.cat([counts.log1p_normalised(), 0 * covariates.nuisance], -1).to(self.net.weight.dtype)
        if self.fault == "leaks":
            inputs = inputs - inputs.mean(0)
        if self.fault == "constant":
            inputs = inputs.mean(0).expand_as(inputs) if len(inputs) > 1 else inputs
        loc, log_scale = self.net(inputs).chunk(2, -1)
        loc = loc[:, :-1] if self.fault == "shape" else loc
        log_scale = log_scale if self.fault == "unbounded" else 3 * log_scale.tanh()
        loc = nn.functional.dropout(loc) if self.fault == "dropout" else loc
        return Normal(loc, log_scale[:, : loc.shape[1]].exp(), validate_args=False)


class DummyDecoderConfig(interfaces.DecoderConfig):
    """A Poisson decoder, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self, *, sizes, statistics):
        decoder = DummyDecoder(sizes, self.fault)
        if self.fault == "forgets_statistics" and statistics is not None:
            decoder.start = statistics.fraction.log()  # no buffer and no parameter: not among the weights
        return decoder


class DummyPoisson(interfaces.CountDistribution):
    def __init__(self, rate, fault):
        super().__init__(batch_shape=rate.shape, validate_args=False)
        self.rate, self.fault = rate, fault

    @property
    def mean(self):
        return self.rate

    @property
    def variance(self):
        return self.rate

    def log_prob(self, value):
        log_prob = torch.distributions.Poisson(self.rate, validate_args=False).log_prob(value.to(self.rate))
        return log_prob + 0.01 if self.fault == "sum" else log_prob

    def sample(self, sample_shape=(), generator=None):
        rate = self.rate.expand(*sample_shape, *self.batch_shape)
        counts = torch.poisson(rate, generator=None if self.fault == "global_random" else generator)
        return counts + 0.25 if self.fault == "fractions" else counts

    def sample_csr(self, generator=None):
        counts = super().sample_csr(generator)
        return 3 * counts if self.fault == "too_many" else counts


class DummyDecoder(interfaces.Decoder):
    def __init__(self, sizes, fault):
        super().__init__()
        self.fault = fault
        self.net = nn.Linear(sizes.latent_dim + sizes.nuisance, sizes.genes)
        self.start = torch.zeros(sizes.genes)

    def forward(self, z, library, covariates):
        if self.fault != "broadcasts_library":
            require_shape("library", library, (len(z),))
        z = z.detach() if self.fault == "detached" else z
        inputs = torch.cat([z, covariates.nuisance.to(z)], -1)
        if self.fault == "ignores_nuisance":
            inputs = torch.cat([z, 0 * covariates.nuisance.to(z)], -1)
        if self.fault == "leaks":
            inputs = inputs - inputs.mean(0)
        logits = self.net(inputs) + self.start.to(self.net.weight.dtype)
        if self.fault == "undefined_at_average":
            logits = logits / covariates.nuisance.norm()
        logits = logits[:, :-1] if self.fault == "shape" else logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return DummyPoisson(logits.softmax(-1) * library.to(logits.dtype).unsqueeze(-1) + 1e-6, self.fault)

    def log_prior(self):
        squares = self.net.weight.square().sum()
        return squares if self.fault == "prior_of_the_wrong_sign" else -squares


class DummyDenoiserConfig(interfaces.DenoiserConfig):
    """A small network, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self, *, dim, make_conditioner):
        return DummyDenoiser(dim, make_conditioner, self.fault)


class DummyDenoiser(interfaces.Denoiser):
    def __init__(self, dim, make_conditioner, fault):
        super().__init__()
        self.fault = fault
        self.inside, self.time = nn.Linear(dim, 24), nn.Linear(1, 24)
        self.conditioner = make_conditioner(24)
        self.out = nn.Linear(24, dim)

    def forward(self, z_t, t, condition):
        z_t = z_t - z_t.mean(0) if self.fault == "leaks" else z_t  # the mistake of attention over the batch
        time = self.time(t.to(z_t.dtype).unsqueeze(-1))
        time = torch.zeros_like(time) if self.fault == "ignores_time" else time
        hidden = self.conditioner(self.inside(z_t).unsqueeze(1), condition).squeeze(1)
        if self.fault != "forgets_joined_time":
            time = self.conditioner.join_time(time, condition)
        hidden = (hidden + time).tanh()
        if self.fault == "shape":
            return self.out(hidden).unsqueeze(1).expand(-1, len(z_t), -1)  # (batch, batch, dim): mistake B1
        return self.out(nn.functional.dropout(hidden) if self.fault == "dropout" else hidden)


class DummyConditionerConfig(interfaces.ConditionerConfig):
    """A shift, with a fault."""

    kind: Literal["dummy"] = "dummy"
    fault: Fault = "none"
    """What is wrong with it."""

    def build(self, *, width, attributes, condition_width):
        return DummyConditioner(width, attributes * condition_width, self.fault)


class DummyConditioner(interfaces.Conditioner):
    def __init__(self, width, inputs, fault):
        super().__init__()
        self.fault = fault
        self.shift = nn.Linear(inputs, width)

    def forward(self, hidden, condition):
        if self.fault == "ignores_the_condition":
            condition = condition * torch.tensor([1.0] + [0.0] * (condition.shape[1] - 1)).to(condition).unsqueeze(-1)
        if self.fault == "leaks":
            condition = condition.mean(0, keepdim=True).expand_as(condition)
        shift = self.shift(condition.flatten(1)).unsqueeze(1)
        if self.fault == "replaces":
            return shift.expand_as(hidden) + 0 * hidden  # FiLM centred on 0: mistake B26
        return (hidden + shift)[:, :1] if self.fault == "shape" else hidden + shift


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

    def build(self):
        return DummySampler(self.fault)


class DummySampler(interfaces.Sampler):
    def __init__(self, fault):
        self.fault = fault

    def sample(self, denoise, noise, schedule, generator=None):
        times = schedule.times(100)
        times = times[:-50] if self.fault == "keeps_noise" else times
        alphas, sigmas = schedule.alpha_sigma(times)
        noise = noise - noise.mean(0) if self.fault == "leaks" and len(noise) > 1 else noise
        z = noise.double() if self.fault == "forgets_sigma" else sigmas[0] * noise.double()
        for i in range(len(times) - 1):
            clean = denoise(z, times[i].expand(len(z)))
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


@dataclass(frozen=True)
class Case:
    contract: type[testing.ComponentContract]
    config: Any
    check: str

    def __str__(self) -> str:
        return f"{type(self.config).__name__}-{getattr(self.config, 'fault', '')}"


BATCH = "test_a_cell_alone_gives_the_same_as_in_a_batch"
FAULTS: dict[tuple[type[testing.ComponentContract], type[interfaces.ComponentConfig]], list[tuple[Fault, str]]] = {
    (testing.EncoderContract, DummyEncoderConfig): [
        ("leaks", BATCH),
        ("shape", "test_the_posterior_has_one_location_and_scale_per_latent_dimension"),
        ("constant", "test_different_cells_have_different_posteriors"),
        ("unbounded", "test_the_scale_is_bounded_whatever_the_weights"),
        ("ignores_nuisance", "test_the_nuisance_reaches_the_posterior_of_its_own_cell"),
        ("dropout", "test_eval_mode_is_deterministic"),
        ("unused_weight", "test_every_weight_gets_a_finite_gradient"),
    ],
    (testing.DecoderContract, DummyDecoderConfig): [
        ("leaks", BATCH),
        ("shape", "test_the_distribution_is_over_cells_and_genes"),
        ("sum", "test_probabilities_sum_to_one"),
        ("forgets_statistics", "test_what_is_taken_from_the_data_is_saved_with_the_weights"),
        ("undefined_at_average", "test_a_cell_of_which_nothing_is_known_has_a_distribution"),
        ("fractions", "test_samples_are_counts"),
        ("fractions", "test_samples_have_the_mean_and_variance_that_are_promised"),
        ("too_many", "test_sparse_samples_have_the_mean_and_variance_that_are_promised"),
        ("detached", "test_the_latent_reaches_the_distribution"),
        ("prior_of_the_wrong_sign", "test_the_log_prior_is_a_number_with_finite_gradients"),
        ("global_random", "test_samples_follow_the_seed"),
        ("broadcasts_library", "test_a_library_of_the_wrong_shape_is_refused"),
        ("ignores_nuisance", "test_the_nuisance_reaches_the_distribution"),
    ],
    (testing.DenoiserContract, DummyDenoiserConfig): [
        ("leaks", BATCH),
        ("shape", "test_the_prediction_has_the_shape_of_the_latent"),
        ("ignores_time", "test_the_prediction_depends_on_latent_time_and_condition"),
        ("forgets_joined_time", "test_a_condition_that_joins_the_time_reaches_the_prediction"),
        ("dropout", "test_eval_mode_is_deterministic"),
    ],
    (testing.ConditionerContract, DummyConditionerConfig): [
        ("leaks", BATCH),
        ("shape", "test_the_shape_of_the_activations_is_kept"),
        ("ignores_the_condition", "test_every_attribute_has_an_effect"),
        ("replaces", "test_the_activations_still_matter"),
    ],
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
    *(
        Case(contract, config(fault=fault), check)
        for (contract, config), faults in FAULTS.items()
        for fault, check in faults
    ),
    Case(testing.ScheduleContract, ForgetfulConfig(power=1.5), "test_the_config_survives_dumping_and_loading"),
    Case(testing.ScheduleContract, UndescribedConfig(), "test_every_field_of_the_config_is_described"),
]
SOUND = {
    testing.EncoderContract: DummyEncoderConfig(),
    testing.DecoderContract: DummyDecoderConfig(),
    testing.DenoiserContract: DummyDenoiserConfig(),
    testing.ConditionerContract: DummyConditionerConfig(),
    testing.ScheduleContract: DummyScheduleConfig(),
    testing.SamplerContract: DummySamplerConfig(),
    testing.GuidanceContract: DummyGuidanceConfig(),
}


def checks(contract: type[testing.ComponentContract], config: Any) -> dict[str, Callable[[], None]]:
    """The contract's tests on one config, as a plugin author's subclass has them."""
    subclass = type("TestOne", (contract,), {"config": config})()
    return {name: getattr(subclass, name) for name in dir(subclass) if name.startswith("test_")}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_a_broken_part_fails_the_check_made_for_it(case):
    with pytest.raises((AssertionError, RuntimeError, IndexError, ValueError, pytest.fail.Exception)):
        checks(case.contract, case.config)[case.check]()


@pytest.mark.parametrize("contract", SOUND, ids=lambda c: c.__name__)
def test_the_same_part_without_the_fault_passes_every_check(contract):
    for check in checks(contract, SOUND[contract]).values():
        check()
