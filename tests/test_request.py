"""What may be asked of generation, and where the rest is drawn from."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data import MatchingCells, Request, TrainingCells, read_request
from latdiff_core.data.training_cells import NEAREST
from latdiff_core.errors import DataError
from latdiff_core.schema import CategoricalAttribute, ContinuousAttribute, DataSchema, VectorAttribute

SCHEMA = DataSchema(
    genes=("a",),
    attributes=(
        CategoricalAttribute(key="cell_type", categories=("B", "T"), shares=(0.5, 0.5)),
        CategoricalAttribute(key="donor", categories=("d1", "d2", "d3"), shares=(0.5, 0.3, 0.2), missing="allow"),
        ContinuousAttribute(key="dose", mean=0.0, std=1.0, missing="allow"),
    ),
    cells=4,
)  # fmt: skip
NAN = float("nan")
TRAINING = TrainingCells(
    Conditions(
        (torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, -1]), torch.tensor([0.0, 1.0, 0.1, NAN])),
        4,
    ),
    torch.tensor([10.0, 20.0, 30.0, 40.0]),
)
TRIPLES = {(0, 0, "0.0"), (0, 1, "1.0"), (1, 1, "0.1"), (1, -1, "nan")}


def read(n, asked, library=None) -> Request:
    return read_request(n, asked, library, SCHEMA, TRAINING)


def annotations(request: Request) -> Annotations:
    return request.annotations(torch.arange(request.n), torch.Generator().manual_seed(0))


def request(n, asked) -> Conditions:
    return annotations(read(n, asked)).conditions


def rows(conditions: Conditions) -> set[tuple[int, int, str]]:
    return {(t, d, f"{x:.1f}") for t, d, x in zip(*(v.tolist() for v in conditions.values), strict=True)}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, TRIPLES),
        ({}, TRIPLES),
        ({"cell_type": "B"}, {t for t in TRIPLES if t[0] == 0}),
        ({"donor": "d2"}, {t for t in TRIPLES if t[1] == 1}),
        ({"donor": None}, {(1, -1, "nan")}),
        ({"dose": 0.1}, {(1, 1, "0.1")}),
        ({"dose": NAN, "cell_type": "T"}, {(1, -1, "nan")}),
    ],
)
def test_what_is_not_asked_for_comes_jointly_from_training_cells_that_agree(asked, expected):
    assert rows(request(200, asked)) == expected


def test_matching_cells_are_drawn_uniformly():
    asked = [torch.zeros(4000, dtype=torch.int64)]
    drawn = MatchingCells(TRAINING, [0]).draw(asked, 4000, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(share, torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=0.04, rtol=0)


def test_a_number_outside_those_of_training_is_answered_with_a_warning(caplog):
    read(3, {"dose": 0.1})
    assert not caplog.records
    read(3, {"dose": 50})
    assert "dose of 50 is outside that of the training cells, 0 to 1" in caplog.text
    caplog.clear()
    ages = torch.rand(50, generator=torch.Generator().manual_seed(0))
    schema = DataSchema(genes=("a",), attributes=(ContinuousAttribute(key="age", mean=0.5, std=0.3),), cells=50)
    training = TrainingCells(Conditions((ages,), 50), torch.ones(50))
    read_request(None, pd.DataFrame({"age": ages.numpy()}), None, schema, training)
    assert not caplog.records, "the training cells' own numbers are not outside theirs"


def test_a_table_is_completed_row_by_row():
    asked = request(None, pd.DataFrame({"cell_type": ["B", "T"] * 50}, index=range(100, 200)))
    assert asked.values[0].tolist() == [0, 1] * 50
    assert rows(asked) == TRIPLES


def test_categories_never_seen_together_are_drawn_from_all_cells_with_a_warning(caplog):
    several = read(200, {"cell_type": "B", "donor": "d3"})
    asked = annotations(several).conditions
    annotations(several)
    assert caplog.text.count("no training cell has the categories asked for") == 1, "once per request"
    assert set(asked.values[0].tolist()) == {0}
    assert {f"{x:.1f}" for x in asked.values[2].tolist()} == {"0.0", "1.0", "0.1", "nan"}


def test_a_number_never_seen_draws_from_the_cells_nearest_to_it_within_the_categories():
    n = 400
    kinds, doses = torch.arange(n) % 2, torch.linspace(0, 1, n)
    training = TrainingCells(Conditions((kinds, doses), n), torch.ones(n))
    asked = [torch.zeros(500, dtype=torch.int64), torch.full((500,), 0.50001)]
    drawn = MatchingCells(training, [0, 1]).draw(asked, 500, torch.Generator().manual_seed(0))
    assert (kinds[drawn] == 0).all()
    assert (doses[drawn] - 0.5).abs().max() < 2 * NEAREST / n
    assert len(drawn.unique()) == NEAREST


def test_a_dose_never_given_draws_from_the_cells_of_the_nearest_dose_alone():
    """Four of the highest, asked for more: thirty cells would be of all doses, and what was not treated among them."""
    doses = torch.tensor([0.0, 0.1, 1.0, 10.0]).repeat_interleave(torch.tensor([50, 30, 20, 4]))
    training = TrainingCells(Conditions((doses,), len(doses)), torch.ones(len(doses)))
    drawn = MatchingCells(training, [0]).draw([torch.full((300,), 50.0)], 300, torch.Generator().manual_seed(0))
    assert (doses[drawn] == 10).all()
    assert len(drawn.unique()) == 4


def test_the_nearest_cells_are_so_by_numbers_in_their_own_spread():
    """A dose between 0 and 1 counts as much as an age in years; cells that lack a number are far from those that do."""
    doses = torch.tensor([0.1, 0.9] * 50).repeat_interleave(4)
    ages = torch.linspace(20, 80, 400)
    ages[::10] = torch.nan
    training = TrainingCells(Conditions((doses, ages), 400), torch.ones(400))
    asked = [torch.full((500,), 0.12), torch.full((500,), 41.5)]
    drawn = MatchingCells(training, [0, 1]).draw(asked, 500, torch.Generator().manual_seed(0))
    assert (doses[drawn] == doses[0]).all()
    assert (ages[drawn] - 41.5).abs().max() < 8


def test_numbers_that_are_equal_but_for_rounding_do_not_decide_which_cells_are_nearest():
    doses = torch.tensor([0.3, float(np.nextafter(np.float32(0.3), np.float32(1)))] * 200)
    ages = torch.linspace(20, 80, 400)
    training = TrainingCells(Conditions((doses, ages), 400), torch.ones(400))
    asked = [torch.full((500,), 0.5), torch.full((500,), 41.5)]
    drawn = MatchingCells(training, [0, 1]).draw(asked, 500, torch.Generator().manual_seed(0))
    assert len(doses[drawn].unique()) == 2
    assert (ages[drawn] - 41.5).abs().max() < 1.1 * 60 / 400 * NEAREST / 2


@pytest.mark.parametrize(("doses", "asked", "near"), [((0.0, 1.0), 0.4, 1), ((0.0, 1.0), NAN, 2), ((0.1, 0.3), 0.2, 2)])
def test_all_cells_that_are_as_near_serve_not_the_first_of_the_file(doses, asked, near):
    """Of doses there are few, so that many cells have the nearest; none lacks one, and rounding decides nothing."""
    kinds, doses = torch.arange(4).repeat_interleave(100), torch.tensor(doses).repeat(200)
    training = TrainingCells(Conditions((kinds, doses), 400), torch.ones(400))
    drawn = MatchingCells(training, [1]).draw([torch.full((1000,), asked)], 1000, torch.Generator().manual_seed(0))
    assert kinds[drawn].bincount().min() > 200
    assert len(doses[drawn].unique()) == near


def test_a_number_that_no_cell_lacks_does_not_outweigh_the_others():
    ages, doses = torch.linspace(20, 80, 400), torch.arange(4.0).repeat(100)
    training = TrainingCells(Conditions((ages, doses), 400), torch.ones(400))
    asked = [torch.full((500,), float("nan")), torch.full((500,), 3.0)]
    drawn = MatchingCells(training, [0, 1]).draw(asked, 500, torch.Generator().manual_seed(0))
    assert (doses[drawn] == 3).all()


def test_of_large_numbers_rounding_does_not_decide_which_cells_are_nearest():
    years = torch.tensor([1e9, 1e9 + 64]).repeat(200)
    training = TrainingCells(Conditions((years,), 400), torch.ones(400))
    drawn = MatchingCells(training, [0]).draw([torch.full((500,), 1.5e9)], 500, torch.Generator().manual_seed(0))
    assert len(years[drawn].unique()) == 2


@pytest.mark.parametrize(
    ("n", "asked", "message"),
    [
        (3, {"cell_type": None}, "'cell_type' is asked for without a value; leave it out"),
        (True, {}, "the number of cells is True"),
        ("5", {}, "the number of cells is '5'"),
        (None, anndata.AnnData(np.ones((2, 2))), "an AnnData was given as conditions"),
        (0, None, "number of cells is 0; give a whole number of at least 1"),
        (-3, {"cell_type": "B"}, "number of cells is -3"),
        (2.5, {"cell_type": "B"}, "number of cells is 2.5"),
        (None, {"cell_type": "B"}, "give the number of cells"),
        (2, {"dose": 1e39}, "finite"),
        (2, "B", "give a mapping"),
        (2, {"celltype": "B"}, "no condition 'celltype'; did you mean 'cell_type'"),
        (2, {"cell_type": "NK"}, "'cell_type' has no value 'NK'; known: B, T"),
        (2, {"cell_type": ["B", "T"]}, "give a table"),
        (2, {"dose": "high"}, "needs numbers"),
        (2, {"dose": np.inf}, "finite"),
        (3, pd.DataFrame({"cell_type": ["B", "T"]}), "3 cells were asked for, and the table of conditions has 2 rows"),
        (None, pd.DataFrame({"cell_type": []}), "has no rows"),
        (None, pd.DataFrame({"cell_type": ["B", "X"]}), "has no value 'X'"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(n, asked, message):
    with pytest.raises(DataError, match=message):
        request(n, asked)


DRUG = VectorAttribute(key="drug", mean=(0.0, 0.0), std=(1.0, 1.0))
WITH_DRUG = SCHEMA.model_copy(
    update={"attributes": (SCHEMA.attributes[0], DRUG), "nuisance": (SCHEMA.attributes[1], SCHEMA.attributes[2])}
)
DRUGS = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [NAN, NAN]])
DRUGGED = TrainingCells(Conditions((torch.tensor([0, 0, 1, 1]), DRUGS), 4), torch.ones(4))


def drug_request(n, asked):
    return annotations(read_request(n, asked, None, WITH_DRUG, DRUGGED))


def test_a_vector_is_asked_for_as_an_array_or_drawn_whole():
    asked = drug_request(50, {"drug": np.array([0.0, 1.0])}).conditions
    assert asked.values[1].unique(dim=0).tolist() == [[0.0, 1.0]]
    assert set(asked.values[0].tolist()) == {0, 1}, "drawn from both cells with this vector"
    drawn = drug_request(50, {"cell_type": "B"}).conditions.values[1]
    assert {tuple(row) for row in drawn.tolist()} == {(0.0, 1.0), (1.0, 0.0)}
    table = pd.DataFrame({"drug": [[0.0, 1.0], np.array([0.5, 0.5])]})
    assert drug_request(None, table).conditions.values[1].tolist() == [[0.0, 1.0], [0.5, 0.5]]


def test_nuisance_is_average_unless_it_is_asked_for():
    free = drug_request(3, {"cell_type": "B"}).nuisance
    assert not free.present().any()
    assert free[:1].values[0].tolist() == [-1]
    asked = drug_request(3, {"cell_type": "B", "donor": "d3"}).nuisance
    assert asked.values[0].tolist() == [2, 2, 2]
    assert asked.present().tolist() == [[True, False]] * 3
    assert drug_request(None, pd.DataFrame({"donor": ["d1", "d2"]})).nuisance.values[0].tolist() == [0, 1]
    with pytest.raises(DataError, match="'donor' has no value 'd9'; known: d1, d2, d3"):
        drug_request(3, {"donor": "d9"})


def test_a_single_library_size_serves_all_cells_and_several_stay_in_order():
    cells = torch.arange(3)
    assert read(3, None, 500).library_sizes(cells).tolist() == [500.0] * 3
    assert read(3, None, np.array([3, 1, 2])).library_sizes(cells).tolist() == [3.0, 1.0, 2.0]
    assert read(3, None).library_sizes(cells) is None


@pytest.mark.parametrize("library", [0, -5.0, NAN, np.inf, 1e12, [1.0, 2.0], [[1.0], [2.0], [3.0]], [1.0, 0.0, 2.0]])
def test_impossible_library_sizes_are_refused(library):
    """A size of 1e12 has no place in integer counts of 32 bits: they would come back negative."""
    with pytest.raises(DataError, match="library"):
        read(3, None, library)


def test_one_setting_stays_one_row_however_many_cells_are_asked_for():
    """A vector of 2,048 numbers for a million cells would be 8 GB."""
    asked = read_request(10**9, {"drug": [0.0, 1.0], "donor": "d2"}, 300, WITH_DRUG, DRUGGED)
    for values in (*asked.conditions.values(), *asked.nuisance, asked.library):
        assert len(values) == 1
    last = asked.annotations(torch.tensor([10**9 - 1]), torch.Generator().manual_seed(0))
    assert last.conditions.values[1].tolist() == [[0.0, 1.0]]
    assert last.nuisance.values[0].tolist() == [1]


def test_what_is_drawn_for_a_cell_does_not_depend_on_the_cells_after_it():
    few, many = request(20, {"cell_type": "B"}), request(200, {"cell_type": "B"})
    for ours, theirs in zip(few.values, many[:20].values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
