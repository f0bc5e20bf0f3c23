"""The conformance kit catches what it is made to catch: broken networks fail the check made for them."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from latdiff_core import interfaces, testing
from latdiff_core.errors import require_shape

Fault = Literal[
    "none", "broadcasts_library", "constant", "detached", "dropout", "forgets_joined_time", "forgets_statistics",
    "fractions", "global_random", "ignores_nuisance", "ignores_the_condition", "ignores_time", "leaks",
    "prior_of_the_wrong_sign", "prior_without_gradient", "replaces", "shape", "sum", "too_many", "unbounded",
    "undefined_at_average", "unused_weight",
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
        squares = squares.detach() if self.fault == "prior_without_gradient" else squares
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


BATCH = "test_a_cell_alone_gives_the_same_as_in_a_batch"
FAILURES = (AssertionError, RuntimeError, IndexError, ValueError, pytest.fail.Exception)
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
        ("prior_without_gradient", "test_the_log_prior_is_a_number_with_finite_gradients"),
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
}
BROKEN = [
    pytest.param(contract, config(fault=fault), check, id=f"{config.__name__}-{fault}-{check}")
    for (contract, config), faults in FAULTS.items()
    for fault, check in faults
]


@pytest.mark.parametrize(("contract", "config", "check"), BROKEN)
def test_a_broken_part_fails_the_check_made_for_it(checks, contract, config, check):
    with pytest.raises(FAILURES):
        checks(contract, config)[check]()


@pytest.mark.parametrize(("contract", "config"), FAULTS, ids=str)
def test_the_same_part_without_the_fault_passes_every_check(checks, contract, config):
    for check in checks(contract, config()).values():
        check()
