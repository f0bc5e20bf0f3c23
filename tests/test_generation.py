"""Generation: sampled counts, library sizes, seeds, blocks."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from latdiff_conditioning import ClassifierFreeGuidance
from latdiff_core import LatentDiffusion
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import ConfigError, DataError, LatdiffError
from latdiff_core.generation import BLOCK
from latdiff_core.guidance_check import warn_of_untrained_branches
from latdiff_core.interfaces import CountDistribution
from latdiff_counts import NegativeBinomial

ASKED = {"cell_type": "NK", "dose": 1.0}
LONGER = {"training.diffusion": {"steps": 1000, "checks": 4, "batch_size": 64, "learning_rate": 3e-3, "ema_decay": 0.9}}


def dense(model: LatentDiffusion, n: int, conditions=ASKED, **options: object) -> np.ndarray:
    return model.generate(n, conditions, **options).X.toarray()


@pytest.fixture(scope="module")
def trained_model(make_model, tiny_data) -> LatentDiffusion:
    """Trained until the library sizes have been learned."""
    return make_model(LONGER).fit(tiny_data, progress=False)


def test_counts_are_sampled_around_the_expectations_with_their_variance_and_zeros(fitted_model):
    """Mistake B12: generating expectations gives no exact zeros and a tenth of the variance."""
    x, mu = dense(fitted_model, 2000).astype(float), dense(fitted_model, 2000, mean=True).astype(float)
    theta = fitted_model.fitted.autoencoder.decoder.dispersion(None, None, None).exp().numpy()
    z = (x - mu) / np.sqrt(mu + mu**2 / theta)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert z.var() == pytest.approx(1.0, abs=0.08)
    zeros = (theta / (theta + mu)) ** theta
    assert (x == 0).mean() == pytest.approx(zeros.mean(), abs=0.01)
    assert (x == 0).mean() > 0.05
    assert (mu > 0).all()
    assert (x == np.rint(x)).all()


def test_expectations_are_labelled_as_such(fitted_model):
    assert fitted_model.generate(2, ASKED).uns["latdiff"]["expression"] == "counts"
    assert fitted_model.generate(2, ASKED, mean=True).uns["latdiff"]["expression"] == "mean counts"


def test_cells_say_what_was_asked(fitted_model):
    drawn, asked = fitted_model.generate(2), fitted_model.generate(2, {"cell_type": "B"}, library=np.float32(500))
    assert drawn.uns["latdiff"]["request"] == {"cells": 2, "conditions": "drawn", "library": "generated"}
    assert asked.uns["latdiff"]["request"] == {"cells": 2, "conditions": "cell_type = B", "library": "500"}
    table = fitted_model.generate(conditions=pd.DataFrame({"cell_type": ["B", "T"]}), library=[500, 600])
    said = {"cells": 2, "conditions": "a table of cell_type", "library": "one for each cell"}
    assert table.uns["latdiff"]["request"] == said


@pytest.mark.parametrize("cell_type", ["B", "NK", "T"])
def test_library_sizes_are_those_of_the_asked_cells(trained_model, tiny_data, cell_type):
    """Mistake B13: without a model of the library size every cell is off by a factor of thousands."""
    real = np.asarray(tiny_data.X.sum(1)).ravel()[tiny_data.obs["cell_type"] == cell_type]
    generated = dense(trained_model, 500, {"cell_type": cell_type}).sum(1)
    assert np.median(generated) == pytest.approx(np.median(real), rel=0.2)
    assert 0.5 < np.log(generated.clip(min=1)).std() / np.log(real).std() < 2


def test_given_library_sizes_are_kept_cell_by_cell(fitted_model):
    sizes = np.array([10.0, 1000.0, 200.0, 50_000.0])
    np.testing.assert_allclose(dense(fitted_model, 4, library=sizes, mean=True).sum(1), sizes, rtol=1e-4)
    np.testing.assert_allclose(dense(fitted_model, 300, library=1e6).sum(1).mean(), 1e6, rtol=0.15)


def test_empirical_library_sizes_are_those_of_training_cells_with_the_same_conditions(make_model, tiny_data):
    model = make_model({"diffusion.library": "empirical"}).fit(tiny_data, progress=False)
    assert model.fitted.diffusion.dim == model.fitted.autoencoder.latent_dim
    chosen = (tiny_data.obs["cell_type"] == "B") & (tiny_data.obs["dose"] == 10.0)
    real = np.unique(np.asarray(tiny_data.X.sum(1)).ravel()[chosen])
    generated = dense(model, 200, {"cell_type": "B", "dose": 10.0}, mean=True).sum(1)
    assert set(np.rint(generated)) == set(real)
    np.testing.assert_allclose(dense(model, 2, library=[7, 70], mean=True).sum(1), [7, 70], rtol=1e-4)


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40])
def test_the_same_seed_gives_the_same_cells_and_another_seed_others(fitted_model, seed):
    once = fitted_model.generate(40, {"cell_type": "T"}, seed=seed)
    torch.manual_seed(99)
    again = fitted_model.generate(40, {"cell_type": "T"}, seed=seed)
    np.testing.assert_array_equal(once.X.toarray(), again.X.toarray())
    assert once.obs.equals(again.obs)
    other = fitted_model.generate(40, {"cell_type": "T"}, seed=seed + 1)
    assert (once.X != other.X).nnz > 0
    assert not once.obs["dose"].equals(other.obs["dose"])


@pytest.mark.parametrize("fewer", [1, 37, BLOCK, BLOCK + 7])
@pytest.mark.parametrize("asked", [{}, {"cell_type": "T"}])
def test_the_first_cells_of_a_larger_n_are_those_of_a_smaller(fitted_model, fewer, asked):
    less, more = fitted_model.generate(fewer, asked), fitted_model.generate(800, asked)
    np.testing.assert_array_equal(less.X.toarray(), more.X[:fewer].toarray())
    pd.testing.assert_frame_equal(less.obs, more.obs[:fewer])


def test_more_than_a_block_of_cells_are_all_different(fitted_model):
    n = BLOCK + 30
    cells = dense(fitted_model, n, mean=True)
    assert cells.shape == (n, 20)
    assert len(np.unique(cells, axis=0)) == n
    sizes = np.arange(1.0, n + 1)
    np.testing.assert_allclose(dense(fitted_model, n, library=sizes, mean=True).sum(1), sizes, rtol=1e-4)


@pytest.mark.parametrize(
    "path",
    ["autoencoder.latent_dim", "training.seed", "diffusion.schedule", "diffusion.prediction",
     "diffusion.denoiser.width"],
)  # fmt: skip
def test_what_training_has_fixed_cannot_be_overridden(fitted_model, path):
    with pytest.raises(ConfigError, match=path):
        fitted_model.generate(2, overrides={path: 3})


@pytest.mark.parametrize(
    "overrides",
    [{"diffusion.sampler.steps": 2}, {"diffusion.sampler": "ddim"}, {"diffusion.guidance.scale": 3.0}],
)
def test_sampler_and_guidance_can_be_overridden_for_one_call(trained_model, overrides):
    before = dense(trained_model, 20, mean=True)
    changed = trained_model.generate(20, ASKED, mean=True, overrides=overrides)
    assert not np.allclose(changed.X.toarray(), before)
    assert changed.uns["latdiff"]["config"] != trained_model.generate(1, ASKED).uns["latdiff"]["config"]
    np.testing.assert_array_equal(dense(trained_model, 20, mean=True), before)


@pytest.mark.parametrize(
    ("trained", "asked", "warned"),
    [
        ("none", {"kind": "classifier_free", "scale": 2.0}, True),
        ("none", {"kind": "classifier_free", "scale": 1.0}, False),
        ("none", {"kind": "interval", "low": 0.7, "high": 0.9}, True),
        ("classifier_free", {"kind": "compositional"}, False),
        ({"kind": "compositional", "alone": 0.0}, {"kind": "compositional"}, True),
        ({"kind": "classifier_free", "drop": 0.0, "scale": 2.0}, None, True),
        ("classifier_free", None, False),
    ],
)
def test_guidance_that_training_did_not_prepare_is_warned_of(make_model, tiny_data, caplog, trained, asked, warned):
    model = make_model({"diffusion.guidance": trained}).fit(tiny_data, progress=False)
    if asked is None:
        assert ("conditions hidden, which training hardly ever does" in caplog.text) == warned, "said before training"
    caplog.clear()
    model.generate(2, ASKED, library=100, overrides=asked and {"diffusion.guidance": asked})
    assert ("conditions hidden, which training hardly ever does" in caplog.text) == warned


def test_a_model_without_conditions_generates(make_model, tiny_data):
    model = make_model(conditions=()).fit(tiny_data, progress=False)
    cells = model.generate(12)
    assert cells.shape == (12, 20)
    assert model.generate(12, overrides={"diffusion.sampler.steps": 2}).shape == (12, 20)
    assert list(cells.obs.columns) == []


@pytest.mark.parametrize("wrong", [50.0, -50.0, float("nan"), float("inf")])
def test_library_sizes_no_training_cell_comes_near_are_an_error_and_never_wrap_around(fitted_model, monkeypatch, wrong):
    """A log library of 50 would be 5e21 counts, which int32 turns into negative ones."""
    sample = Diffusion.sample

    def spoiled(self, *arguments):
        x = sample(self, *arguments)
        x[:, -1] = wrong
        return x

    monkeypatch.setattr(Diffusion, "sample", spoiled)
    with pytest.raises(LatdiffError, match="train"):
        fitted_model.generate(20, ASKED)
    if np.isfinite(wrong):
        assert fitted_model.generate(20, ASKED, library=500).X.min() >= 0


def test_a_single_library_size_out_of_range_is_moved_into_it_with_a_warning(fitted_model, monkeypatch, caplog):
    sample = Diffusion.sample

    def spoiled(self, *arguments):
        x = sample(self, *arguments)
        x[0, -1] = 50.0
        return x

    monkeypatch.setattr(Diffusion, "sample", spoiled)
    cells = fitted_model.generate(20, ASKED)
    assert "(1 of 20 where it was first seen; not said again)" in caplog.text
    caplog.clear()
    fitted_model.generate(3 * BLOCK, ASKED)
    assert len(caplog.records) == 1
    assert cells.X.max() <= np.e * float(fitted_model.fitted.training_cells.library.max()) * 2


def test_library_sizes_of_cells_that_nobody_asked_for_are_not_judged(fitted_model, monkeypatch, caplog):
    """A block is sampled whole and cut: its rest is of the last row of what was asked."""
    sample = Diffusion.sample

    def spoiled(self, *arguments):
        x = sample(self, *arguments)
        x[20:, -1] = 50.0
        return x

    monkeypatch.setattr(Diffusion, "sample", spoiled)
    assert len(dense(fitted_model, 20)) == 20
    assert "library sizes" not in caplog.text
    with pytest.raises(LatdiffError, match="80 of 100 generated library sizes"):
        fitted_model.generate(100, ASKED)


@pytest.mark.parametrize("drawn", [torch.nan, torch.inf, 2.0**31, -9e18])
def test_counts_that_int32_cannot_hold_are_an_error(drawn):
    class Dense(NegativeBinomial):
        sample_csr = CountDistribution.sample_csr

        def sample(self, sample_shape=(), generator=None):
            return torch.full((2, 3), drawn)

    class Sparse(NegativeBinomial):
        @staticmethod
        def draw_from_uniform(uniform, parameters, generator):
            return torch.full_like(uniform, drawn)

    for wrong in (Dense, Sparse):
        with pytest.raises(LatdiffError, match="not finite"):
            wrong(torch.full((2, 3), 3.0), torch.zeros(3)).sample_csr(torch.Generator().manual_seed(0))


def test_a_distribution_that_is_not_finite_has_no_samples():
    """Comparisons with NaN are false: a damaged model would give cells without counts."""
    with pytest.raises(LatdiffError, match="not finite"):
        NegativeBinomial(torch.full((2, 3), torch.nan), torch.zeros(3)).sample_csr()


def test_any_whole_number_that_a_file_can_hold_is_a_seed(fitted_model, tmp_path):
    made = [fitted_model.generate(3, seed=seed).X.toarray() for seed in (7, np.int64(7), np.uint8(7))]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    for seed, name in ((2**63 - 1, "a.zarr"), (2**63 - 1, "a.h5ad"), (-(2**63), "b.zarr"), (-(2**63), "b.h5ad")):
        fitted_model.generate_to(tmp_path / name, 3, seed=seed)
        read = anndata.read_zarr if name.endswith("zarr") else anndata.read_h5ad
        assert read(tmp_path / name).uns["latdiff"]["seed"] == seed
    for seed in (0.5, 2**63, -(2**63) - 1, "7"):
        with pytest.raises(DataError, match=r"seed is .*; give a whole number from -9223372036854775808 to"):
            fitted_model.generate(3, seed=seed)


def test_the_check_of_guidance_asks_it_at_latents_of_the_models_size():
    """One may look at the dimensions that change most, or at their spread."""
    seen = []

    class Watching(ClassifierFreeGuidance):
        def guided(self, denoise):
            return lambda z_t, t: (seen.append(z_t), super(Watching, self).guided(denoise)(z_t, t))[1]

    guidance = Watching(attributes=1, scale=2.0, drop=0.1)
    warn_of_untrained_branches(guidance, guidance, 9)
    assert {z_t.shape[1] for z_t in seen} == {9}
    assert all(z_t.std(-1).min() > 0 for z_t in seen)
