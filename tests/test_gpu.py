"""On a GPU: the same likelihoods, losses and expectations as on a CPU, and loops that never wait for it."""

from __future__ import annotations

from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latdiff_core import CountBatch, generation
from latdiff_core.cli.app import generate
from latdiff_core.device import Accelerator, moved
from latdiff_core.errors import ConfigError, TrainingInterrupted
from latdiff_core.training.modules import Stage
from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
KINDS = [(Poisson, 0), (NegativeBinomial, 1), (ZeroInflatedNegativeBinomial, 2), (NegativeBinomialMixture, 3)]
ON_GPU = {"training.accelerator": "gpu"}


@pytest.fixture(scope="module")
def gpu_model(make_model, tiny_data):
    return make_model(ON_GPU).fit(tiny_data, progress=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_missed_at_once(make_model, fitted_model, tiny_data):
    with pytest.raises(ConfigError, match="none here that torch can use; give auto or cpu"):
        make_model(ON_GPU).fit(tiny_data, progress=False)
    with pytest.raises(ConfigError, match="none here that torch can use; give auto or cpu"):
        fitted_model.generate(5, accelerator="gpu")


def test_an_unknown_accelerator_is_refused_with_the_known_ones(fitted_model):
    with pytest.raises(ConfigError, match="accelerator is 'tpu'; give one of auto, cpu, gpu"):
        fitted_model.generate(5, accelerator="tpu")


def test_the_command_line_knows_the_same_accelerators():
    assert get_type_hints(generate)["accelerator"] == Accelerator


def test_cells_say_what_made_them(fitted_model):
    assert fitted_model.generate(5, accelerator="cpu").uns["latdiff"]["accelerator"] == "cpu"


@needs_gpu
@pytest.mark.parametrize(("kind", "others"), KINDS)
def test_likelihoods_and_gradients_are_those_of_a_cpu(kind, others):
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(64, 300, generator=generator)]
    parameters += [torch.randn(300, generator=generator) for _ in range(others)]
    counts = CountBatch.from_dense(torch.poisson(parameters[0].exp(), generator=generator))
    found = {}
    for device in ("cpu", "cuda"):
        placed = [p.to(device).requires_grad_() for p in parameters]
        log_likelihood = kind(*placed).log_likelihood(counts.to(device))
        found[device] = [log_likelihood, *torch.autograd.grad(log_likelihood.sum(), placed)]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert_close(ours.cpu(), theirs, rtol=2e-5, atol=2e-4)


@needs_gpu
@pytest.mark.parametrize(("kind", "others"), KINDS)
def test_sparse_draws_have_the_mean_and_the_zeros_of_the_distribution(kind, others):
    cells, genes = 20_000, 50
    log_mu = torch.linspace(-4, 3, genes).expand(cells, genes)
    rest = [torch.full((genes,), value) for value in (0.5, -1.0, -2.0)[:others]]
    distribution = kind(*(p.cuda() for p in (log_mu, *rest)))
    drawn = distribution.sample_csr(torch.Generator("cuda").manual_seed(0))
    mean, variance = distribution.mean[0].cpu().numpy(), distribution.variance[0].cpu().numpy()
    zeros = distribution.log_prob(torch.zeros_like(distribution.mean))[0].exp().cpu().numpy()
    dense = drawn.toarray()
    assert np.abs((dense.mean(0) - mean) / np.sqrt(variance / cells)).max() < 4.5
    assert np.abs(((dense == 0).mean(0) - zeros) / np.sqrt(zeros * (1 - zeros) / cells + 1e-12)).max() < 4.5


@needs_gpu
def test_training_comes_to_the_losses_of_a_cpu(gpu_model, fitted_model):
    """As near as the other random numbers of its posterior samples allow."""
    for stage, within in (("autoencoder", 0.02), ("diffusion", 0.1)):
        ours, theirs = ([row["val_loss"] for row in m.fitted.history[stage]] for m in (gpu_model, fitted_model))
        assert ours == pytest.approx(theirs, rel=within)
    assert {weight.device.type for weight in gpu_model.fitted.autoencoder.parameters()} == {"cpu"}


@needs_gpu
def test_bfloat16_products_train_to_the_same_likelihood(make_model, tiny_data, gpu_model):
    half = make_model({**ON_GPU, "training.precision": "bfloat16"}).fit(tiny_data, progress=False)
    ours, theirs = (m.fitted.history["autoencoder"][-1]["val_loss"] for m in (half, gpu_model))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=5e-3)


@needs_gpu
def test_compiled_steps_train_to_the_same_losses(make_model, tiny_data, gpu_model):
    compiled = make_model({**ON_GPU, "training.compile": True}).fit(tiny_data, progress=False)
    for stage, within in (("autoencoder", 0.02), ("diffusion", 0.1)):
        ours, theirs = ([row["val_loss"] for row in m.fitted.history[stage]] for m in (compiled, gpu_model))
        assert ours == pytest.approx(theirs, rel=within)


@needs_gpu
def test_an_interrupted_fit_goes_on_with_its_averages(make_model, tiny_data, tmp_path, monkeypatch):
    whole = make_model(ON_GPU).fit(tiny_data, progress=False).fitted.history["autoencoder"]

    def interrupted(self, batch, index):
        if self.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "on_train_batch_start", interrupted)
        with pytest.raises(TrainingInterrupted):
            make_model(ON_GPU).fit(tiny_data, checkpoints=tmp_path, progress=False)
    resumed = make_model(ON_GPU).fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    for ours, theirs in zip(resumed.fitted.history["autoencoder"], whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@needs_gpu
def test_expected_counts_are_those_of_a_cpu(gpu_model, monkeypatch):
    monkeypatch.setattr(generation, "GPU_BLOCK", generation.BLOCK)  # so that both draw the same noise
    ours, theirs = (gpu_model.generate(700, mean=True, accelerator=a).X.toarray() for a in ("gpu", "cpu"))
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-4)


@needs_gpu
def test_cells_of_a_gpu_are_those_of_the_same_seed_whatever_their_number(gpu_model):
    some, more = (gpu_model.generate(n, accelerator="gpu").X for n in (600, 10_300))
    assert (some != more[:600]).nnz == 0
    on_cpu = gpu_model.generate(10_300, accelerator="cpu").X
    assert more.mean() == pytest.approx(on_cpu.mean(), rel=0.03)
    assert more.nnz == pytest.approx(on_cpu.nnz, rel=0.03)


@needs_gpu
@pytest.mark.parametrize("way", [{}, {"training.precision": "bfloat16"}, {"training.compile": True}])
def test_no_step_of_training_waits_for_the_gpu(make_model, tiny_data, monkeypatch, way):
    """From the second batch of an epoch to the one before the last, its reading and transfer included."""
    watched = []

    def watch(self, batch, index):
        if index == 1:
            watched.append(type(self).__name__)
            torch.cuda.set_sync_debug_mode("error")

    def rest(self, outputs, batch, index):
        if index == 2:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Stage, "on_train_batch_start", watch)
    monkeypatch.setattr(Stage, "on_train_batch_end", rest)
    try:
        small = {"training.autoencoder.batch_size": 20, "training.diffusion.batch_size": 20}
        make_model({**ON_GPU, **small, **way}).fit(tiny_data, progress=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watched == ["AutoencoderStage"] * 3 + ["DiffusionStage"] * 3


@needs_gpu
@pytest.mark.parametrize("sampler", ["heun", "euler", "ddim", "ddpm", "dpmpp_2m"])
@pytest.mark.parametrize("guidance", [{"kind": "classifier_free", "scale": 2.0}, {"kind": "compositional"}])
def test_sampling_of_latents_does_not_wait_for_the_gpu(make_model, tiny_data, gpu_model, sampler, guidance):
    from latdiff_core.asked_generation import ask

    overrides = {"diffusion.sampler": {"kind": sampler, "steps": 4}, "diffusion.guidance": guidance}
    asked = ask(gpu_model.config, gpu_model.fitted, 64, None, None, 0, False, overrides, "gpu")
    conditions = gpu_model.fitted.training_cells.conditions[:64].to("cuda")
    diffusion = asked.generation.diffusion
    diffusion.sample(conditions)
    try:
        torch.cuda.set_sync_debug_mode("error")
        x = diffusion.sample(conditions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.isfinite().all()


@needs_gpu
def test_a_move_takes_the_numbers_of_its_time():
    """The pinned memory of a move may be used again only after the copy."""
    torch.cuda._sleep(100_000_000)
    ours = [moved(torch.full((1000,), float(k)), "cuda") for k in range(200)]
    assert [int(x[-1]) for x in ours] == list(range(200))
