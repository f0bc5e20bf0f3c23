"""Condition columns into tensors and back, and the schema built from them."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latdiff_core.configs import CategoricalConfig, ContinuousConfig, DataConfig, VectorConfig
from latdiff_core.data import annotation_table, build_schema, decode_obs, decode_obsm, encode_obs, unknown_values
from latdiff_core.errors import DataError
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, DataSchema, VectorAttribute

TYPE = CategoricalAttribute(key="cell_type", categories=("B", "NK", "T"), shares=(0.5, 0.3, 0.2))
DOSE = ContinuousAttribute(key="dose", mean=1.0, std=2.0)


def allowed(attribute):
    return attribute.model_copy(update={"missing": "allow"})


def frame(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    return table.set_index(pd.Index([f"c{i}" for i in range(len(table))]))


def schema_of(obs: pd.DataFrame, *conditions) -> DataSchema:
    return build_schema(["g"], obs, DataConfig(conditions=conditions))


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
    with pytest.raises(DataError, match="obs and obsm have no 'cell_type'; did you mean 'celltype'"):
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
    assert types.shares == (0.5, 0.5)
    assert (dose.mean, dose.std) == (2.0, 2.0)
    assert (schema.cells, len(schema.genes)) == (3, 1)


@pytest.mark.parametrize(
    ("obs", "condition", "message"),
    [
        (frame(a=["x"]), CategoricalConfig(key="b"), "obs and obsm have no 'b'"),
        (frame(a=["x", None]), CategoricalConfig(key="a"), "1 cells have no value of 'a'"),
        (frame(a=[None, None]), CategoricalConfig(key="a", missing="allow"), "no values at all"),
        (frame(a=["x", "y"]), ContinuousConfig(key="a"), "needs numbers"),
        (frame(a=[0.5, 1.5]), VectorConfig(key="a"), "'a' is a vector condition .* put it into obsm"),
        (frame(a=["x", "y"]), VectorConfig(key="a"), "'a' is a vector condition and needs, for every cell, an array"),
        (frame(a=[[1.0, 2.0], [1.0]]), VectorConfig(key="a"), "all of one length; these have 1, 2"),
        (frame(a=[[1.0, np.nan], [1.0, 2.0]]), VectorConfig(key="a"), "1 cells have no value of 'a', e.g. c0"),
        (frame(a=[[np.inf], [1.0]]), VectorConfig(key="a"), "'a' holds infinite"),
    ],
)
def test_a_column_that_cannot_be_a_condition_is_refused_at_training(obs, condition, message):
    with pytest.raises(DataError, match=message):
        schema_of(obs, condition)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, lambda x: pd.DataFrame(x, index=["c0", "c1", "c2"])])
def test_vectors_come_from_obsm_and_go_back_there(form):
    numbers = np.array([[0.0, 1.0], [2.0, 1.0], [np.nan, 5.0]])
    cells = anndata.AnnData(np.ones((3, 1)), obs=frame(cell_type=["B", "T", "T"]), obsm={"drug": form(numbers)})
    table = annotation_table(cells, ["drug"])
    schema = schema_of(table, VectorConfig(key="drug", missing="allow"))
    drug = schema.attributes[0]
    assert (drug.mean, drug.std) == ((1.0, 1.0), (1.0, 1.0)), "of the cells that have one; a constant has std 1"
    conditions = encode_obs(table, schema.attributes)
    assert conditions.values[0].shape == (3, 2)
    assert conditions.present().tolist() == [[True], [True], [False]]
    np.testing.assert_array_equal(decode_obsm(conditions, schema.attributes)["drug"], numbers)
    assert list(decode_obs(conditions, schema.attributes).columns) == []


def test_a_vector_of_another_length_than_the_models_is_refused():
    drug = VectorAttribute(key="drug", mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(DataError, match="'drug' has 3 numbers per cell; the model needs 2"):
        encode_obs(frame(drug=[[1.0, 2.0, 3.0]]), [drug])


def test_a_name_in_both_obs_and_obsm_is_the_column():
    cells = anndata.AnnData(np.ones((2, 1)), obs=frame(a=["x", "y"]), obsm={"a": np.zeros((2, 3))})
    assert annotation_table(cells, ["a"])["a"].tolist() == ["x", "y"]


def test_unknown_values_are_present_in_no_cell():
    drug = VectorAttribute(key="drug", mean=(0.0, 0.0), std=(1.0, 1.0))
    conditions = unknown_values([TYPE, DOSE, drug], 2)
    assert not conditions.present().any()
    assert conditions.values[2].shape == (2, 2)


def test_only_arrays_that_are_asked_for_are_read():
    cells = anndata.AnnData(np.ones((2, 1)), obsm={"self": np.zeros((2, 3)), "drug": np.ones((2, 2))})
    assert list(annotation_table(cells, ["drug"]).columns) == ["drug"]
    assert list(annotation_table(cells, ["self"]).columns) == ["self"]


def test_an_array_is_no_category():
    with pytest.raises(DataError, match="'drug' holds an array for every cell; take it as a vector"):
        schema_of(frame(drug=[[1.0, 2.0], [0.0, 1.0]]), CategoricalConfig(key="drug"))


def test_fractions_that_were_measured_are_no_categories_and_doses_are():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"dose": rng.choice([0.1, 0.5, 2.0], 300), "depth": rng.random(300)})
    schema = build_schema(["a"], table, DataConfig(conditions=[CategoricalConfig(key="dose")]))
    assert schema.attributes[0].categories == ("0.1", "0.5", "2")
    with pytest.raises(DataError, match=r"'depth' holds 300 different fractions, .* depth:continuous"):
        build_schema(["a"], table, DataConfig(conditions=[CategoricalConfig(key="depth")]))


def test_rounding_is_no_spread():
    """The mean of 0.1, 700 times, is not 0.1: divided by the 3e-17 between them, any other value is enormous."""
    obs = frame(dose=[0.1] * 700, drug=[[0.1, 0.3]] * 700)
    dose, drug = schema_of(obs, ContinuousConfig(key="dose"), VectorConfig(key="drug")).attributes
    assert dose.std == 1.0
    assert drug.std == (1.0, 1.0)


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


def test_a_whole_number_is_the_same_category_however_it_is_stored():
    """Clusters come as integers, as floats where some cells once had none, and as text."""
    schema = build_schema(["g"], pd.DataFrame({"c": [0.0, 1.0, 1.5, 10.0]}), DataConfig(conditions=["c"]))
    assert schema.attributes[0].categories == ("0", "1", "1.5", "10")
    for given in (
        [10, 0],
        [10.0, 0.0],
        ["10", "0"],
        ["10.0", "0.0"],
        pd.Categorical([10.0, 0.0]),
        pd.array([10, 0], "Int64"),
    ):
        assert encode_obs(pd.DataFrame({"c": given}), schema.attributes).values[0].tolist() == [3, 0]
    as_text = build_schema(["g"], pd.DataFrame({"c": ["0.0", "1.0"]}), DataConfig(conditions=["c"]))
    assert encode_obs(pd.DataFrame({"c": [1.0, 0.0]}), as_text.attributes).values[0].tolist() == [1, 0]
    tenths = pd.DataFrame({"c": np.array([0.1, 0.5], np.float32)})
    assert build_schema(["g"], tenths, DataConfig(conditions=["c"])).attributes[0].categories == ("0.1", "0.5")
    with pytest.raises(DataError, match="'c' holds lists or arrays"):
        encode_obs(pd.DataFrame({"c": [["0"], ["1"]]}), schema.attributes)


def test_a_number_comes_back_as_it_was_given():
    dose = ContinuousAttribute(key="dose", mean=0.0, std=1.0, missing="allow")
    given = [0.1, 1e-9, 12345.678, -3.0, float("nan")]
    values = encode_obs(pd.DataFrame({"dose": given}), [dose])
    np.testing.assert_array_equal(decode_obs(values, [dose])["dose"], given)
