"""The KL weight of stage 1 follows how widely reconstructed cells spread."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from latdiff_core.counts import CountBatch
from latdiff_core.data import gene_statistics
from latdiff_core.fitting import best_row
from latdiff_core.training.kept_weights import KeptWeights
from latdiff_core.training.modules import AutoencoderStage
from latdiff_core.training.spread import Spread

CELLS, GENES = 600, 10


class Repeated:
    """A distribution that draws the counts it is given."""

    def __init__(self, counts):
        self.counts = counts

    def sample_csr(self, generator=None):
        return self.counts


def counts_of(rates, seed=0):
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(rates), dtype="float32")


def projected(counts, components):
    dense = counts.toarray()
    points = np.log1p(1e4 * dense / dense.sum(1, keepdims=True)) - components.mean.numpy()
    return points @ components.loadings.numpy()


@pytest.fixture
def components():
    return gene_statistics(counts_of(np.full((CELLS, GENES), 20.0)), np.arange(CELLS)).components


@pytest.fixture
def noise():
    """Cells that differ by the noise of their counts alone, which a latent can follow."""
    counts = counts_of(np.full((CELLS, GENES), 20.0))
    return anndata.AnnData(counts, obs={"cell_type": ["a", "b"] * (CELLS // 2), "dose": np.zeros(CELLS)})


def test_it_is_the_mean_log_ratio_of_variances_along_components(components):
    """Against numpy, in two batches."""
    real, drawn = (counts_of(np.full((CELLS, GENES), rate), seed=1) for rate in (20.0, 10.0))
    spread = Spread(components)
    for rows in (slice(0, 400), slice(400, CELLS)):
        spread.add(CountBatch.from_csr(real[rows]), Repeated(drawn[rows].astype("int32")), torch.Generator())
    variances = [projected(counts, components).var(0) for counts in (real, drawn)]
    found, _ = spread.log_ratio()
    assert found == pytest.approx(np.log(variances[1] / variances[0]).mean(), rel=1e-3)
    assert found > 0.5  # half of the counts have twice the noise


def test_its_standard_error_is_how_much_it_varies(components):
    """Cells and reconstructions that know nothing of each other, drawn a hundred times."""
    found = []
    for seed in range(100):
        spread = Spread(components)
        real, drawn = (counts_of(np.full((100, GENES), 20.0), seed=2 * seed + k) for k in (0, 1))
        spread.add(CountBatch.from_csr(real), Repeated(drawn.astype("int32")), torch.Generator())
        found.append(spread.log_ratio())
    ratios, errors = np.array(found).T
    assert errors[0] == pytest.approx(ratios.std(), rel=0.3)
    assert abs(ratios.mean()) < 0.3 * errors[0]


def test_cells_that_are_all_alike_have_a_finite_ratio(components):
    spread, alike = Spread(components), counts_of(np.full((1, GENES), 20.0))[[0] * 5]
    spread.add(CountBatch.from_csr(alike), Repeated(counts_of(np.full((5, GENES), 20.0))), torch.Generator())
    assert 0 < spread.log_ratio()[0] < 50


def test_one_cell_says_nothing(components):
    spread, cell = Spread(components), counts_of(np.full((1, GENES), 20.0))
    spread.add(CountBatch.from_csr(cell), Repeated(cell), torch.Generator())
    assert spread.log_ratio() == (0.0, np.inf)


def test_the_weight_rises_until_decoded_cells_are_no_more_varied_than_cells(make_model, noise):
    overrides = {
        "autoencoder.latent_dim": 8,
        "autoencoder.encoder": {"kind": "pca_mlp", "hidden": [32], "dropout": 0.0},
        "autoencoder.decoder": {"kind": "negative_binomial", "hidden": [32], "dropout": 0.0},
        "training.validation_fraction": 0.3,
        "training.autoencoder.kl_weight": 0.01,
        "training.autoencoder.epochs": 20,
        "training.autoencoder.batch_size": 32,
        "training.autoencoder.learning_rate": 0.01,
    }
    spreads = {}
    for largest in (0.01, 2.0):
        rising = {"training.autoencoder.largest_kl_weight": largest}
        rows = make_model(overrides | rising).fit(noise, progress=False).fitted.history["autoencoder"]
        weights = [row["kl_weight"] for row in rows]
        assert 0.00999 < min(weights) <= max(weights) < 1.001 * largest
        spreads[largest] = abs(np.log(rows[-1]["val_spread"]))
    assert spreads[0.01] > 0.2  # the noise of a cell is in its latent, and again in its counts
    assert spreads[2.0] < spreads[0.01] / 2


def test_without_a_largest_weight_nothing_is_measured_and_where_it_does_not_rise_nothing_changes(make_model, tiny_data):
    given = {"training.autoencoder.kl_weight": 1.0}
    plain, held = (
        make_model(given | {"training.autoencoder.largest_kl_weight": largest}).fit(tiny_data, progress=False).fitted
        for largest in (None, 1.0)
    )
    assert "val_spread" not in plain.history["autoencoder"][0]
    assert "val_spread" in held.history["autoencoder"][0]
    for name, weight in plain.autoencoder.state_dict().items():
        assert torch.equal(weight, held.autoencoder.state_dict()[name])


def test_a_resumed_fit_goes_on_with_the_weight_it_had(make_model, tiny_data):
    config = make_model({"training.autoencoder.largest_kl_weight": 2.0}).config.training.autoencoder
    autoencoder = make_model().fit(tiny_data, progress=False).fitted.autoencoder
    before, after = (AutoencoderStage(autoencoder, config, cells=5) for _ in range(2))
    before.final_kl_weight, before.lowest_loss, checkpoint = 1.7, 3.5, {}
    before.on_save_checkpoint(checkpoint)
    after.on_load_checkpoint(checkpoint)
    assert (after.final_kl_weight, after.lowest_loss) == (1.7, 3.5)


def test_losses_of_another_weight_are_not_compared():
    """The first epoch's is the lowest, of a lower weight; of the last two the first is kept, and reported."""
    kept, network, rows = KeptWeights(decay=0.0), torch.nn.Linear(1, 1), []
    for epoch, (weight, loss) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.2, 3.0))):
        with torch.no_grad():
            network.weight.fill_(epoch)
        rows.append({"epoch": epoch, "kl_weight": weight, "val_loss": loss})
        kept.on_train_epoch_end(type("Trainer", (), {"callback_metrics": rows[-1]}), network)
    assert kept.weights["weight"].item() == best_row(rows)["epoch"] == 1


def test_a_decoder_without_counts_leaves_the_weight_alone(make_model, tiny_data):
    overrides = {"autoencoder.decoder": {"kind": "gaussian"}, "training.autoencoder.largest_kl_weight": 1.0}
    model = make_model(overrides).fit(tiny_data, progress=False)
    assert "kl_weight" not in model.fitted.history["autoencoder"][-1]
