"""The schema that is stored with a model."""

import pandas as pd
import pytest

from wineexp.data import schema
from wineexp.data.dataset import Dataset
from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.data.target import Target
from wineexp.data.task import Task, make_task


@pytest.fixture
def task() -> Task:
    """Forty rows of one numeric and one text feature; a fifth is held out."""
    frame = pd.DataFrame(
        {
            "sugar": [float(value) for value in range(40)],
            "colour": ["red", "white"] * 20,
            "quality": [3, 4, 5, 6] * 10,
        }
    )
    dataset = Dataset(frame, ("sugar", "colour"), {"sugar": "g/L", "colour": ""}, ())
    target = Target("quality", [4], ["bad", "good"], False, "accuracy", "maximize")
    return make_task(dataset, target, None, {"size": 0.2, "seed": 0})


def test_the_schema_describes_the_training_rows_alone(task: Task) -> None:
    described = task.schema("wines", "good")
    sugar, colour = described.features
    assert isinstance(sugar, NumericFeature)
    assert isinstance(colour, TextFeature)
    assert (sugar.name, sugar.unit, sugar.dtype) == ("sugar", "g/L", "float64")
    assert (sugar.minimum, sugar.maximum) == (task.X["sugar"].min(), task.X["sugar"].max())
    assert sugar.median == task.X["sugar"].median()
    assert sum(sugar.histogram.counts) == len(task.X) == 32
    assert len(sugar.histogram.edges) == len(sugar.histogram.counts) + 1
    assert sum(colour.values.values()) == 32
    assert described.classes == ["bad", "good"]
    held_out = set(task.X_holdout["sugar"])
    assert held_out
    assert not held_out & {sample.row["sugar"] for sample in described.samples}


def test_samples_are_training_rows_of_every_class(task: Task) -> None:
    samples = task.schema("wines", "good").samples
    assert [sample.label for sample in samples] == ["bad"] * 3 + ["good"] * 3
    for sample in samples:
        match = task.X["sugar"] == sample.row["sugar"]
        assert task.y[match].tolist() == [sample.label]
        assert task.X["colour"][match].tolist() == [sample.row["colour"]]


def test_a_schema_survives_json_and_an_unknown_key_is_refused(task: Task) -> None:
    described = task.schema("wines", "good")
    text = schema.to_json(described)
    assert schema.from_json(text) == described
    with pytest.raises(ValueError, match="unknown"):
        schema.from_json(text.replace('"ordinal"', '"surprise": 1, "ordinal"'))
