"""Stage 2: standardisation, loss, guidance in one call, sampling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from latdiff_core.assembly import build_diffusion
from latdiff_core.conditions import Conditions
from latdiff_core.diffusion import Diffusion
from latdiff_core.interfaces import Denoiser
from latdiff_core.prediction import target, total_std
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, DataSchema
from latdiff_core.training.batches import LatentBatch
from latdiff_core.training.fit import standardise

CELLS = 5


@pytest.fixture(scope="module")
def schema() -> DataSchema:
    attributes = (
        CategoricalAttribute(key="cell_type", categories=("B", "T"), shares=(0.5, 0.5)),
        ContinuousAttribute(key="dose", mean=0.0, std=1.0),
    )
    return DataSchema(genes=("a", "b"), attributes=attributes, cells=1)


@pytest.fixture
def conditions() -> Conditions:
    return Conditions((torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])), CELLS)


@pytest.fixture
def make_diffusion(make_model, schema) -> Callable[..., Diffusion]:
    """Builds a diffusion with random weights throughout, so that nothing hides behind zero-initialisation."""

    def make(**overrides: object) -> Diffusion:
        torch.manual_seed(0)
        config = make_model({f"diffusion.{path}": value for path, value in overrides.items()}).config
        diffusion = build_diffusion(config, schema)
        for parameter in diffusion.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return diffusion

    return make


class Oracle(Denoiser):
    """Knows the clean latents, finds the noise in its scaled input, and predicts the exact target plus ``error``."""

    def __init__(self, diffusion: Diffusion, z: Tensor, error: float) -> None:
        super().__init__()
        self.schedule, self.prediction, self.z, self.error = diffusion.schedule, diffusion.prediction, z, error

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        alpha, sigma = (s.unsqueeze(-1) for s in self.schedule.alpha_sigma(t))
        eps = (z_t * total_std(alpha, sigma) - alpha * self.z) / sigma
        return target(self.prediction, self.z, eps, alpha, sigma) + self.error


class Calls:
    """Counts the denoiser's calls and their batch sizes."""

    def __init__(self, diffusion: Diffusion) -> None:
        self.batches: list[int] = []
        diffusion.denoiser.register_forward_hook(lambda _, inputs, __: self.batches.append(len(inputs[0])))


def latents(n: int) -> LatentBatch:
    """Posteriors with a wide dimension, a narrow one, one that is dead and one known exactly, like a library size."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(n, 4, generator=generator) * torch.tensor([5.0, 0.02, 1e-4, 0.5]) + torch.tensor([3.0, 0, 0, 7.0])
    return LatentBatch(loc, torch.tensor([0.1, 0.01, 1.0, 0.0]).expand(n, 4), Conditions((), n))


def test_posterior_samples_are_standardised_to_unit_variance_in_every_dimension(make_model, schema):
    """Mistake B18: raw latents under a unit-variance schedule; and dead dimensions blown up by the std of the means."""
    diffusion = build_diffusion(make_model({"autoencoder.latent_dim": 3}).config, schema)
    batch = latents(20_000)
    standardise(diffusion, batch, np.arange(20_000))
    x = batch.sample(torch.Generator().manual_seed(1))
    standardised = diffusion.standardiser(x)
    torch.testing.assert_close(standardised.mean(0), torch.zeros(4), atol=0.05, rtol=0)
    torch.testing.assert_close(standardised.std(0), torch.ones(4), atol=0.05, rtol=0)
    torch.testing.assert_close(diffusion.standardiser.inverse(standardised), x, atol=1e-5, rtol=1e-5)


def test_standardisation_learns_nothing_from_held_out_cells(make_model, schema):
    diffusion = build_diffusion(make_model({"autoencoder.latent_dim": 3}).config, schema)
    batch = latents(100)
    batch.loc[50:] += 1000
    standardise(diffusion, batch, np.arange(50))
    torch.testing.assert_close(diffusion.standardiser.mean, batch.loc[:50].mean(0))


def test_the_standardisation_is_saved_with_the_weights(make_diffusion):
    assert {"standardiser.mean", "standardiser.std"} <= set(make_diffusion().state_dict())


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [("epsilon", "linear"), ("clean", "linear"), ("v", "linear"), ("v", "flow"), ("flow", "flow")],
)
def test_the_loss_is_zero_for_a_perfect_denoiser_and_the_squared_error_otherwise(
    make_diffusion, conditions, prediction, schedule
):
    diffusion = make_diffusion(prediction=prediction, schedule=schedule)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(CELLS, diffusion.dim, dtype=torch.float64, generator=generator)
    draw = diffusion.draw(conditions, generator)
    for error in (0.0, 2.0):
        diffusion.denoiser = Oracle(diffusion, x, error)
        loss = diffusion.loss(x, conditions, draw)
        torch.testing.assert_close(loss, torch.full((CELLS,), error**2, dtype=torch.float64), atol=1e-8, rtol=1e-8)


def test_a_draw_hides_attributes_of_single_cells_at_the_configured_rate(make_diffusion):
    diffusion = make_diffusion(guidance={"kind": "classifier_free", "drop": 0.3})
    many = Conditions((torch.zeros(4000, dtype=torch.int64), torch.zeros(4000)), 4000)
    keep = diffusion.draw(many, torch.Generator().manual_seed(0)).keep
    assert keep.shape == (4000, 2)
    assert 0.05 < (keep[:, 0] ^ keep[:, 1]).float().mean() < 0.5, "attributes are always dropped together, or never"
    assert 0.4 < keep.float().mean() < 0.8


@pytest.mark.parametrize(("scale", "branches"), [(1.0, 1), (3.0, 2)])
@pytest.mark.parametrize(("sampler", "calls"), [("ddim", 6), ("heun", 11)])
def test_guided_sampling_takes_the_chosen_sampler_with_all_branches_in_one_call(
    make_diffusion, conditions, sampler, calls, scale, branches
):
    """Mistake B27: guidance with its own loop, or with two calls of the network per step."""
    guidance = {"kind": "classifier_free", "scale": scale}
    diffusion = make_diffusion(sampler={"kind": sampler, "steps": 6}, guidance=guidance)
    seen = Calls(diffusion)
    diffusion.sample(conditions, torch.Generator().manual_seed(0))
    assert seen.batches == [branches * CELLS] * calls


def test_branches_in_one_call_equal_branches_one_by_one(make_diffusion, conditions):
    diffusion = make_diffusion().double().eval()
    denoise = diffusion.branched_denoise(conditions)
    z_t = torch.randn(CELLS, diffusion.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, CELLS, dtype=torch.float64)
    keep = torch.tensor([[True, True], [False, True], [False, False]])
    together = denoise(z_t, t, keep)
    assert together.shape == (3, CELLS, diffusion.dim)
    for branch, mask in zip(together, keep, strict=True):
        torch.testing.assert_close(branch, denoise(z_t, t, mask.unsqueeze(0))[0])
    assert (together[0] - together[1]).abs().min() > 1e-6


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("conditioner", ["film", "concat"])
def test_a_cell_alone_is_generated_as_in_any_batch(make_diffusion, conditions, conditioner, scale):
    """Mistake B1: broadcasting or attending over the batch lets one cell change another."""
    guidance = {"kind": "classifier_free", "scale": scale}
    diffusion = make_diffusion(conditioner=conditioner, guidance=guidance).double().eval()
    noise = torch.randn(CELLS, diffusion.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def generate(cells: Tensor) -> Tensor:
        chosen = conditions[cells]
        denoise = diffusion.guidance.guided(diffusion.branched_denoise(chosen))
        return diffusion.sampler.sample(denoise, noise[cells], diffusion.schedule)

    together = generate(torch.arange(CELLS))
    assert together.shape == (CELLS, diffusion.dim)
    assert len(together.unique(dim=0)) == CELLS
    for cell in range(CELLS):
        torch.testing.assert_close(generate(torch.tensor([cell]))[0], together[cell])
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(generate(order), together[order])


def test_sampling_turns_dropout_and_gradients_off_and_leaves_the_mode_as_it_was(make_diffusion, conditions):
    """Mistake B14: "deterministic" generation with dropout still on."""
    denoiser = {"kind": "dit", "width": 16, "depth": 1, "heads": 2, "token_dim": 2, "dropout": 0.5}
    diffusion = make_diffusion(denoiser=denoiser).train()
    states = []
    diffusion.denoiser.register_forward_hook(
        lambda module, *_: states.append((module.training, torch.is_grad_enabled()))
    )
    once, again = (diffusion.sample(conditions, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(once, again)
    assert set(states) == {(False, False)}
    assert diffusion.training
    assert not once.requires_grad


def test_samples_come_back_on_the_scale_of_the_latents(make_diffusion, conditions):
    diffusion = make_diffusion(prediction="clean")
    diffusion.standardiser.mean.copy_(torch.arange(diffusion.dim))
    diffusion.standardiser.std.fill_(10.0)
    diffusion.denoiser = Oracle(diffusion, torch.full((CELLS, diffusion.dim), 0.5), 0.0)
    expected = 5.0 + torch.arange(diffusion.dim, dtype=torch.float32).expand(CELLS, -1)
    torch.testing.assert_close(diffusion.sample(conditions), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_any_precision_train_and_sample(make_diffusion, conditions, dtype):
    """Mistake B4: a model cast as a whole meets noise in float32."""
    diffusion = make_diffusion().to(dtype)
    x = torch.randn(CELLS, diffusion.dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    diffusion.loss(x, conditions, diffusion.draw(conditions)).mean().backward()
    assert diffusion.sample(conditions, torch.Generator().manual_seed(0)).isfinite().all()


def test_times_are_never_in_half_precision(make_model, tiny_data):
    fitted = make_model().fit(tiny_data, progress=False).fitted
    diffusion, seen = fitted.diffusion.to(torch.bfloat16), []
    diffusion.denoiser.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1].dtype))
    diffusion.sample(fitted.training_cells.conditions[:3])
    assert set(seen) == {torch.float32}


def test_the_loss_has_the_weight_of_the_schedule(make_model, tiny_data, monkeypatch):
    fitted = make_model().fit(tiny_data, progress=False).fitted
    diffusion, conditions = fitted.diffusion, fitted.training_cells.conditions[:6]
    x, draw = torch.randn(6, diffusion.dim), diffusion.draw(conditions)
    plain = diffusion.loss(x, conditions, draw)
    monkeypatch.setattr(diffusion.schedule, "loss_weight", lambda t: 1 + t)
    torch.testing.assert_close(diffusion.loss(x, conditions, draw), (1 + draw.t) * plain)
