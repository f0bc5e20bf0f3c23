"""Condition columns into tensors and back, and the schema built from them."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latdiff_core.configs import CategoricalConfig, ContinuousConfig, DataConfig
from latdiff_core.data import build_schema, decode_obs, encode_obs
from latdiff_core.errors import DataError
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, DataSchema

TYPE = CategoricalAttribute(key="cell_type", categories=("B", "NK", "T"))
DOSE = ContinuousAttribute(key="dose", mean=1.0, std=2.0)


def allowed(attribute):
    return attribute.model_copy(update={"missing": "allow"})


def frame(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    return table.set_index(pd.Index([f"c{i}" for i in range(len(table))]))


def schema_of(obs: pd.DataFrame, *conditions) -> DataSchema:
    counts = sparse.csr_matrix(np.arange(1, 1 + len(obs), dtype=np.float32)[:, None])
    return build_schema(anndata.AnnData(counts, obs=obs), DataConfig(conditions=conditions))


def test_values_survive_the_way_into_tensors_and_back():
    obs = frame(cell_type=["T", None, "B"], dose=[1.0, 10.0, np.nan])
    attributes = (allowed(TYPE), allowed(DOSE))
    conditions = encode_obs(obs, attributes)
    assert conditions.values[0].tolist() == [2, -1, 0]
    assert conditions.present().tolist() == [[True, True], [False, True], [True, False]]
    back = decode_obs(conditions, attributes)
    assert list(back["cell_type"].cat.categories) == ["B", "NK", "T"]
    assert back["cell_type"].astype(object).where(back["cell_type"].notna(), None).tolist() == ["T", None, "B"]
    np.testing.assert_array_equal(back["dose"], [1.0, 10.0, np.nan])


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        (TYPE, ["T", None]),
        (TYPE, ["T", np.nan]),
        (TYPE, pd.Categorical(["T", None])),
        (DOSE, [1.0, np.nan]),
        (DOSE, pd.array([1, None], dtype="Int64")),
    ],
)
def test_missing_values_are_refused_unless_they_are_asked_for(attribute, values):
    obs = frame(**{attribute.key: values})
    with pytest.raises(DataError, match=rf"1 cells have no value of '{attribute.key}', e\.g\. c1; .*missing: allow"):
        encode_obs(obs, [attribute])
    assert encode_obs(obs, [allowed(attribute)]).present().tolist() == [[True], [False]]


def test_an_unknown_category_is_named_with_the_known_ones():
    with pytest.raises(DataError, match=r"'cell_type' has no value 'Tcell'; known: B, NK, T"):
        encode_obs(frame(cell_type=["B", "Tcell"]), [TYPE])
    with pytest.raises(DataError, match="did you mean 'NK'"):
        encode_obs(frame(cell_type=["NKK"]), [TYPE])


def test_a_missing_column_is_named_with_the_nearest_one():
    with pytest.raises(DataError, match="obs has no column 'cell_type'; did you mean 'celltype'"):
        encode_obs(frame(celltype=["B"]), [TYPE])


def test_text_is_refused_where_numbers_are_needed():
    with pytest.raises(DataError, match="'dose' is a continuous condition and needs numbers"):
        encode_obs(frame(dose=["high"]), [DOSE])


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_value_is_refused_and_not_taken_for_a_missing_one(value):
    with pytest.raises(DataError, match="finite"):
        encode_obs(frame(dose=[1.0, value]), [DOSE])
    with pytest.raises(DataError, match="finite"):
        schema_of(frame(dose=[1.0, value]), ContinuousConfig(key="dose"))


def test_a_column_that_is_there_twice_is_refused():
    twice = pd.DataFrame([["B", "T"]], columns=["cell_type", "cell_type"])
    with pytest.raises(DataError, match="cell_type"):
        encode_obs(twice, [TYPE])


@pytest.mark.parametrize("values", [[2, 1, 2], [True, False, True], ["b", "a", "b"], pd.Categorical(["b", "a", "b"])])
def test_categories_of_any_type_are_known_by_their_text_in_sorted_order(values):
    obs = frame(group=values)
    attribute = schema_of(obs, CategoricalConfig(key="group")).attributes[0]
    assert list(attribute.categories) == sorted({str(v) for v in values})
    assert encode_obs(obs, [attribute]).values[0].tolist() == [1, 0, 1]
    assert encode_obs(obs.astype(str), [attribute]).values[0].tolist() == [1, 0, 1]


def test_the_schema_holds_what_the_training_cells_say():
    obs = frame(cell_type=pd.Categorical(["T", "B", None], categories=["unused", "T", "B"]), dose=[0.0, 4.0, np.nan])
    schema = schema_of(
        obs, CategoricalConfig(key="cell_type", missing="allow"), ContinuousConfig(key="dose", missing="allow")
    )
    types, dose = schema.attributes
    assert types.categories == ("B", "T")
    assert (dose.mean, dose.std) == (2.0, 2.0)
    assert (schema.cells, len(schema.genes)) == (3, 1)


@pytest.mark.parametrize(
    ("obs", "condition", "message"),
    [
        (frame(a=["x"]), CategoricalConfig(key="b"), "no column 'b'"),
        (frame(a=["x", None]), CategoricalConfig(key="a"), "1 cells have no value of 'a'"),
        (frame(a=[None, None]), CategoricalConfig(key="a", missing="allow"), "no values at all"),
        (frame(a=["x", "y"]), ContinuousConfig(key="a"), "needs numbers"),
    ],
)
def test_a_column_that_cannot_be_a_condition_is_refused_at_training(obs, condition, message):
    with pytest.raises(DataError, match=message):
        schema_of(obs, condition)


def test_a_constant_condition_is_standardised_without_division_by_zero():
    attribute = schema_of(frame(dose=[3.0, 3.0]), ContinuousConfig(key="dose")).attributes[0]
    assert (attribute.mean, attribute.std) == (3.0, 1.0)


def test_models_without_conditions_decode_to_obs_without_columns():
    conditions = encode_obs(frame(a=[1, 2]), ())
    assert decode_obs(conditions, ()).shape == (2, 0)
    assert torch.equal(conditions.present(), torch.ones(2, 0, dtype=torch.bool))


@pytest.mark.parametrize("values", [["1", ""], [1.0, np.nan], [1.0, None]])
def test_a_blank_number_is_a_missing_value_and_no_number(values):
    obs = frame(dose=values)
    with pytest.raises(DataError, match="1 cells have no value of 'dose'"):
        schema_of(obs, ContinuousConfig(key="dose"))
    attribute = schema_of(frame(dose=[1.0, 2.0]), ContinuousConfig(key="dose")).attributes[0]
    with pytest.raises(DataError, match="1 cells have no value of 'dose'"):
        encode_obs(obs, [attribute])
