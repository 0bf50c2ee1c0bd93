import pandas as pd
import pytest

from wineexp import schema
from wineexp.data import Dataset
from wineexp.problem import Problem, pose
from wineexp.schema import Number, Text
from wineexp.target import Target


@pytest.fixture
def problem() -> Problem:
    """Forty rows of a number and a word; a fifth is held out."""
    frame = pd.DataFrame(
        {
            "sugar": [float(value) for value in range(40)],
            "colour": ["red", "white"] * 20,
            "quality": [3, 4, 5, 6] * 10,
        }
    )
    dataset = Dataset(frame, ("sugar", "colour"), {"sugar": "g/L", "colour": ""}, ())
    target = Target("quality", [4], ["bad", "good"], False, "accuracy", "maximize")
    return pose(dataset, target, None, {"size": 0.2, "seed": 0})


def test_the_schema_describes_the_training_rows_and_never_the_holdout(problem: Problem) -> None:
    found = problem.schema("wines", "good")
    sugar, colour = found.features
    assert isinstance(sugar, Number)
    assert isinstance(colour, Text)
    assert (sugar.name, sugar.unit, sugar.dtype) == ("sugar", "g/L", "float64")
    assert (sugar.minimum, sugar.maximum) == (problem.X["sugar"].min(), problem.X["sugar"].max())
    assert sugar.median == problem.X["sugar"].median()
    assert sum(sugar.histogram.counts) == len(problem.X) == 32
    assert len(sugar.histogram.edges) == len(sugar.histogram.counts) + 1
    assert sum(colour.values.values()) == 32
    assert found.classes == ["bad", "good"]
    held_out = set(problem.X_holdout["sugar"])
    assert held_out
    assert not held_out & {sample.row["sugar"] for sample in found.samples}


def test_samples_are_rows_of_every_class(problem: Problem) -> None:
    samples = problem.schema("wines", "good").samples
    assert [sample.label for sample in samples] == ["bad"] * 3 + ["good"] * 3
    for sample in samples:
        match = problem.X["sugar"] == sample.row["sugar"]
        assert problem.y[match].tolist() == [sample.label]
        assert problem.X["colour"][match].tolist() == [sample.row["colour"]]


def test_what_is_written_is_read_and_an_unknown_key_is_refused(problem: Problem) -> None:
    found = problem.schema("wines", "good")
    text = schema.write(found)
    assert schema.read(text) == found
    with pytest.raises(ValueError, match="unknown"):
        schema.read(text.replace('"ordinal"', '"surprise": 1, "ordinal"'))
