"""A small diffusion, trained on a toy whose truth is known: all parts of stage 2 together, in float32."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.assembly import build_diffusion
from latdiff_core.conditions import Conditions
from latdiff_core.configs import recipe_config
from latdiff_core.schema import CategoricalAttribute, DataSchema

SHARES = torch.tensor([0.5, 0.3, 0.2])
MEANS = torch.tensor([[12.0, 0, 1, 0, 5], [9.0, 1.5, 0, -1, 5], [10.0, -2, -1, 1, 5]])
STDS = torch.tensor([[0.3, 0.6, 0.2, 0.5, 2], [0.5, 0.2, 0.4, 0.3, 2], [0.2, 0.4, 0.6, 0.3, 2]])
STEPS, CELLS = 1500, 1000
TINY = {
    "autoencoder.latent_dim": 4,
    "diffusion.denoiser": {"kind": "dit", "width": 48, "depth": 1, "heads": 2, "token_dim": 2},
    "diffusion.condition_width": 16,
}


def _real(types, generator):
    return MEANS[types] + STDS[types] * torch.randn(len(types), 5, generator=generator)


def _types(generator):
    return torch.multinomial(SHARES, CELLS, replacement=True, generator=generator)


def _energy_distance(x, y):
    return (2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()).item()


@pytest.fixture(scope="module")
def trained():
    """The default recipe's stage 2, made small, after 1,500 steps on an endless supply of the toy."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    schema = DataSchema(
        genes=("g",),
        attributes=(CategoricalAttribute(key="type", categories=("a", "b", "c"), shares=(0.5, 0.3, 0.2)),),
        cells=CELLS,
    )
    diffusion = build_diffusion(recipe_config("default", ["type"], TINY), schema)
    generator = torch.Generator().manual_seed(0)
    reference = _real(_types(generator), generator)
    diffusion.standardiser.mean.copy_(reference.mean(0))
    diffusion.standardiser.std.copy_(reference.std(0))
    optimiser = torch.optim.AdamW(diffusion.parameters(), lr=4e-3, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        types = _types(generator)[:256]
        conditions = Conditions((types,), len(types))
        x = diffusion.standardiser(_real(types, generator))
        loss = diffusion.loss(x, conditions, diffusion.draw(conditions, generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return diffusion


@pytest.fixture(scope="module")
def floor():
    """Mean energy distance between two sets of real points, by type; the last is of all types together."""
    generator = torch.Generator().manual_seed(1)
    sets = [torch.full((CELLS,), k) for k in range(3)]
    return [
        sum(_energy_distance(_real(pick(), generator), _real(pick(), generator)) for _ in range(6)) / 6
        for pick in [*(lambda s=s: s for s in sets), lambda: _types(generator)]
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_type_asked_for_is_generated_nearly_as_well_as_real_points_repeat(trained, floor, kind):
    generator = torch.Generator().manual_seed(2)
    types = torch.full((CELLS,), kind)
    distance = sum(
        _energy_distance(trained.sample(Conditions((types,), CELLS), generator), _real(types, generator))
        for _ in range(3)
    )
    assert distance / 3 < 2.5 * floor[kind]


def test_without_a_type_all_types_are_generated_in_their_shares(trained, floor):
    generator = torch.Generator().manual_seed(2)
    unknown = Conditions((torch.full((CELLS,), -1),), CELLS)
    samples = trained.sample(unknown, generator)
    distance = _energy_distance(samples, _real(_types(generator), generator))
    nearest = torch.cdist(samples[:, :4], MEANS[:, :4]).argmin(1)
    assert distance < 3 * floor[3]
    assert (torch.bincount(nearest, minlength=3) / CELLS).tolist() == pytest.approx(SHARES.tolist(), abs=0.05)


def test_the_same_seed_generates_the_same_points(trained):
    conditions = Conditions((torch.zeros(10, dtype=torch.int64),), 10)
    first, again = (trained.sample(conditions, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
