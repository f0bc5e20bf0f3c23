"""The embedding of conditions and its learned nulls."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.conditions import ConditionEmbedding, Conditions, coded, indicated, indicated_width, side_by_side
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, VectorAttribute

ATTRIBUTES = (
    CategoricalAttribute(key="cell_type", categories=("B", "T", "NK"), shares=(0.5, 0.3, 0.2), missing="allow"),
    ContinuousAttribute(key="dose", mean=0.0, std=2.0, missing="allow"),
)
NAN = float("nan")


@pytest.fixture
def embedding() -> ConditionEmbedding:
    torch.manual_seed(0)
    return ConditionEmbedding(ATTRIBUTES, width=6)


def conditions(codes: list[int], doses: list[float]) -> Conditions:
    return Conditions((torch.tensor(codes), torch.tensor(doses)), len(codes))


def test_a_real_value_of_zero_is_not_the_null(embedding):
    """Mistake B23: zeros as the null collide with an all-zero condition, such as a control at dose 0."""
    zeros = conditions([0], [0.0])
    seen, dropped = embedding(zeros), embedding(zeros, torch.zeros(1, 2, dtype=torch.bool))
    assert (seen - dropped).abs().amax(-1).min() > 0.1
    assert dropped.abs().amax(-1).min() > 0.1, "a null of zeros would be what an untrained embedding of zeros gives"


def test_every_attribute_has_its_own_null_and_it_learns_only_from_dropped_cells(embedding):
    keep = torch.tensor([[True, False], [True, True]])
    embedding(conditions([0, 1], [1.0, 2.0]), keep).square().sum().backward()
    assert embedding.null.shape == (2, 6)
    assert not torch.equal(embedding.null[0], embedding.null[1])
    assert torch.equal(embedding.null.grad[0], torch.zeros(6))
    torch.testing.assert_close(embedding.null.grad[1], 2 * embedding.null[1].detach())


def test_a_missing_value_is_the_null_with_finite_gradients(embedding):
    tokens = embedding(conditions([-1, 2], [NAN, NAN]))
    assert torch.equal(tokens[0], embedding.null)
    assert torch.equal(tokens[1, 1], embedding.null[1])
    assert not torch.equal(tokens[1, 0], embedding.null[0])
    tokens.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in embedding.parameters())


def test_the_keep_mask_hides_single_attributes_of_single_cells(embedding):
    """Mistake B24: one mask for the batch, or one for all attributes, hides too much or too little."""
    batch = conditions([0, 1, 2, 0], [0.0, 1.0, -1.0, 3.0])
    keep = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
    tokens, full = embedding(batch, keep), embedding(batch)
    for cell in range(4):
        for attribute in range(2):
            expected = full[cell, attribute] if keep[cell, attribute] else embedding.null[attribute]
            assert torch.equal(tokens[cell, attribute], expected)


def test_a_missing_value_stays_null_when_it_is_kept(embedding):
    keep = torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(embedding(conditions([-1], [NAN]), keep)[0], embedding.null)


def test_a_continuous_value_is_standardised_before_it_is_embedded():
    torch.manual_seed(0)
    shifted = ContinuousAttribute(key="dose", mean=50.0, std=10.0)
    plain = ContinuousAttribute(key="dose", mean=0.0, std=1.0)
    ours, reference = ConditionEmbedding([shifted], 4), ConditionEmbedding([plain], 4)
    reference.load_state_dict(ours.state_dict())
    torch.testing.assert_close(
        ours(Conditions((torch.tensor([50.0, 65.0]),), 2)), reference(Conditions((torch.tensor([0.0, 1.5]),), 2))
    )


def test_a_vector_is_one_token_and_missing_with_any_of_its_numbers():
    torch.manual_seed(0)
    drug = VectorAttribute(key="drug", mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 2.0), missing="allow")
    embedding = ConditionEmbedding([drug], 6)
    values = torch.tensor([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, NAN, 2.0]])
    tokens = embedding(Conditions((values,), 3))
    assert tokens.shape == (3, 1, 6)
    assert not torch.allclose(tokens[0], tokens[1])
    assert torch.equal(tokens[2, 0], embedding.null[0])
    assert Conditions((values,), 3).repeat(2).values[0].shape == (6, 3)


def test_covariates_are_centred_on_the_average_training_cell_and_0_where_unknown():
    codes = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    numbers = torch.linspace(-1, 5, 10)
    dose = ContinuousAttribute(key="dose", mean=2.0, std=numbers.std(correction=0).item())
    drug = VectorAttribute(key="drug", mean=(2.0, 0.0), std=(dose.std, 1.0))
    vectors = torch.stack([numbers, torch.zeros(10)], -1)
    values = Conditions((codes, numbers, vectors), 10)
    attributes = (ATTRIBUTES[0], dose, drug)
    coding = side_by_side(coded, values, attributes)
    assert coding.shape == (10, 3 + 1 + 2)
    torch.testing.assert_close(coding.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(coding[:, 3:5].std(0, correction=0), torch.ones(2))
    torch.testing.assert_close(coding[5, :3], torch.tensor([-0.5, 0.7, -0.2]))
    unknown = Conditions((torch.tensor([-1]), torch.tensor([NAN]), torch.full((1, 2), NAN)), 1)
    assert torch.equal(side_by_side(coded, unknown, attributes), torch.zeros(1, 6))
    assert side_by_side(coded, Conditions((), 4), ()).shape == (4, 0)


def test_an_average_dose_is_told_from_none():
    """Mistake B23 in the decoder, from which conditions are hidden as if they were unknown."""
    dose = ContinuousAttribute(key="dose", mean=2.0, std=1.0)
    drug = VectorAttribute(key="drug", mean=(2.0, 0.0), std=(1.0, 1.0))
    values = Conditions((torch.tensor([2.0, NAN]), torch.tensor([[2.0, 0.0], [2.0, NAN]])), 2)
    assert side_by_side(indicated, values, (dose, drug)).tolist() == [[0, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert sum(map(indicated_width, (ATTRIBUTES[0], dose, drug))) == 3 + 2 + 3


def test_a_model_without_attributes_has_no_tokens():
    assert ConditionEmbedding((), 6)(Conditions((), 3)).shape == (3, 0, 6)


def test_repeated_and_selected_conditions_stay_with_their_cells():
    batch = conditions([0, 1, 2], [0.0, 1.0, 2.0])
    assert batch.repeat(2).values[0].tolist() == [0, 1, 2, 0, 1, 2]
    assert batch[torch.tensor([2, 0])].values[1].tolist() == [2.0, 0.0]
    assert len(batch[1:]) == 2
    assert len(Conditions((), 3)[1:]) == 2
