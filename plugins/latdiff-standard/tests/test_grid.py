"""The whole catalogue: every combination trains and samples, or is refused at assembly with a reason."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import get_args

import pytest
import torch

from latdiff_core.assembly import build_autoencoder, build_diffusion
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.configs import recipe_config
from latdiff_core.counts import CountBatch
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import ComponentConfig
from latdiff_core.prediction import Prediction
from latdiff_core.registry import STANDARD, current_registry
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, DataSchema

TINY = {
    ("encoder", "mlp"): {"hidden": (8,)},
    ("encoder", "set_transformer"): {"width": 8, "queries": 2, "depth": 1, "heads": 2},
    ("denoiser", "dit"): {"width": 8, "depth": 1, "heads": 2, "token_dim": 2},
    ("denoiser", "resnet_mlp"): {"width": 8, "depth": 1},
    ("denoiser", "unet"): {"widths": (8, 4), "depth": 1},
    ("conditioner", "cross_attention"): {"heads": 2},
    ("guidance", "classifier_free"): {"scale": 1.5},
    ("guidance", "interval"): {"scale": 1.5},
    ("guidance", "compositional"): {"scale": 1.5},
    ("sampler", "ddim"): {"steps": 2, "eta": 0.5},
}
"""Fields that make a part small, or give it something to do; every other sampler takes two steps."""
SCHEMA = DataSchema(
    genes=("a", "b"),
    attributes=(
        CategoricalAttribute(key="cell_type", categories=("B", "T"), shares=(0.5, 0.5)),
        ContinuousAttribute(key="dose", mean=0.0, std=1.0, missing="allow"),
    ),
    nuisance=(CategoricalAttribute(key="batch", categories=("one", "two"), shares=(0.5, 0.5)),),
    cells=4,
)
CONDITIONS = Conditions((torch.tensor([0, 1, 1, 0]), torch.tensor([0.0, 1.0, float("nan"), 2.0])), 4)
REFUSED = {
    (schedule, "epsilon"): f"diffusion -> prediction: epsilon cannot be used with the schedule '{schedule}'"
    for schedule in ("flow", "cosine", "sigmoid")
}
"""Pairs of schedule and prediction that do not fit each other, and the reason that is given."""


def catalogue(interface: str) -> dict[str, ComponentConfig]:
    """Every first-party kind of an interface, tiny."""
    registry = current_registry()
    kinds = [kind for kind in registry.kinds(interface) if registry.owner(interface, kind) in STANDARD]
    sampler = {"steps": 2} if interface == "sampler" else {}
    return {kind: registry.get(interface, kind)(**TINY.get((interface, kind), sampler)) for kind in kinds}


ENCODERS, DECODERS = catalogue("encoder"), catalogue("decoder")
PARTS = {name: catalogue(name) for name in ("denoiser", "schedule", "conditioner", "sampler", "guidance")}
NETWORKS = list(product(PARTS["denoiser"], PARTS["schedule"], get_args(Prediction), PARTS["conditioner"]))
BASE = recipe_config(
    "default", ["cell_type", {"kind": "continuous", "key": "dose", "missing": "allow"}],
    {"autoencoder.latent_dim": 4, "diffusion.condition_width": 4},
)  # fmt: skip


def assemble(prediction: str, **kinds: str) -> Diffusion:
    parts = {part: PARTS[part][kind] for part, kind in kinds.items()}
    section = BASE.diffusion.model_copy(update={"prediction": prediction, **parts})
    return build_diffusion(BASE.model_copy(update={"diffusion": section}), SCHEMA)


def walk(diffusion: Diffusion) -> None:
    """Train a step, and sample."""
    x = torch.randn(4, diffusion.dim)
    optimiser = torch.optim.SGD(diffusion.parameters(), lr=0.01)
    loss = diffusion.loss(x, CONDITIONS, diffusion.draw(CONDITIONS)).mean()
    loss.backward()
    optimiser.step()
    assert loss.isfinite()
    assert all(weight.isfinite().all() for weight in diffusion.parameters())
    cells = diffusion.sample(CONDITIONS, torch.Generator().manual_seed(0))
    assert cells.shape == (4, 5)
    assert cells.isfinite().all()


def test_the_grid_is_the_catalogue():
    sizes = {part: len(kinds) for part, kinds in PARTS.items()} | {"prediction": len(get_args(Prediction))}
    assert sizes == {
        "denoiser": 3, "schedule": 5, "prediction": 4, "conditioner": 4, "sampler": 5, "guidance": 4,
    }  # fmt: skip
    assert prod(sizes.values()) == 4800


@pytest.mark.parametrize(("denoiser", "schedule", "prediction", "conditioner"), NETWORKS)
def test_every_combination_trains_and_samples_or_is_refused_with_a_reason(denoiser, schedule, prediction, conditioner):
    torch.manual_seed(0)
    for sampler, guidance in product(PARTS["sampler"], PARTS["guidance"]):
        kinds = {"denoiser": denoiser, "schedule": schedule, "conditioner": conditioner}
        kinds |= {"sampler": sampler, "guidance": guidance}
        if reason := REFUSED.get((schedule, prediction)):
            with pytest.raises(ConfigError, match=reason):
                assemble(prediction, **kinds)
            continue
        try:
            walk(assemble(prediction, **kinds))
        except Exception as error:
            error.add_note(f"with the sampler {sampler} and the guidance {guidance}")
            raise


@pytest.mark.parametrize("dispersion", ["gene", "condition", "cell"])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_trains_with_every_decoder(encoder, decoder, dispersion):
    torch.manual_seed(0)
    part = type(DECODERS[decoder])
    fields = {"hidden": (8,)} | ({"dispersion": dispersion} if "dispersion" in part.model_fields else {})
    section = BASE.autoencoder.model_copy(update={"encoder": ENCODERS[encoder], "decoder": part(**fields)})
    autoencoder = build_autoencoder(BASE.model_copy(update={"autoencoder": section}), SCHEMA)
    counts = CountBatch.from_dense(torch.tensor([[3, 0], [1, 2], [0, 9], [40, 0]]))
    covariates = Annotations(CONDITIONS, Conditions((torch.tensor([0, 1, -1, 0]),), 4)).covariates(SCHEMA)
    elbo = autoencoder.elbo(counts, covariates)
    elbo.loss.backward()
    torch.optim.SGD(autoencoder.parameters(), lr=0.01).step()
    assert elbo.loss.isfinite()
    assert all(weight.isfinite().all() for weight in autoencoder.parameters())
    drawn = autoencoder.eval().decode(torch.randn(4, 4), counts.library, covariates).sample_csr()
    assert drawn.shape == (4, 2)
