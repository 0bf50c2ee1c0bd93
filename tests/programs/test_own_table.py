"""A table of a user's own through all programs: missing values, truth values, rare texts, dates, missing labels."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import new_database
from tests.own_table import frame, write_configs
from tests.serving.conftest import LENIENT_GATE, Store, fill_cache
from wineexp import UserError, compose, explore, promote, train
from wineexp.core import dates
from wineexp.models import persistence
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model import loading
from wineexp.serving.model.cache import CachedVersion
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes import mlflow

COLUMNS = ["calls", "day calls", "plan", "active"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs."""
    folder = tmp_path_factory.mktemp("customers")
    write_configs(folder)
    return folder


@pytest.fixture
def settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.chdir(folder)
    return {"config_dir": folder / "conf"}


def overrides(*columns: str) -> list[str]:
    return ["data=customers", f"data.columns=[{','.join(columns)}]", "tracking=off"]


def test_every_kind_of_column_is_explored(settings: dict[str, Path]) -> None:
    page = explore(compose(*overrides(*COLUMNS), program="explore", **settings)).page.read_text()
    for name in ("day calls", "active=True", "plan=gold"):
        assert f'<th scope="row">{name}</th>' in page


def test_a_pipeline_takes_truth_values_and_rare_texts_as_they_stand_in_the_table(settings: dict[str, Path]) -> None:
    result = train(compose(*overrides(*COLUMNS), "split.n_splits=3", "model=logreg", **settings))
    assert result.scores["accuracy"][0] > 0.7
    fitted, rows = result.pipeline, frame()[COLUMNS].head(20)
    as_texts = rows.assign(active=rows["active"].map(str))
    assert np.array_equal(fitted.predict_proba(rows), fitted.predict_proba(as_texts))
    assert not np.array_equal(fitted.predict_proba(rows), fitted.predict_proba(rows.assign(active=~rows["active"])))


def test_a_date_is_learned_from_by_its_parts(settings: dict[str, Path]) -> None:
    result = train(compose(*overrides(*COLUMNS, "since"), "split.n_splits=3", "model=logreg", **settings))
    names = list(result.pipeline[:-1].get_feature_names_out())
    assert [name for name in names if "since" in name] == [
        "since",
        *(f"{part} of since" for part in ("year", "month", "day", "day of week", "day of year")),
    ]
    assert np.isfinite(result.pipeline[:-1].transform(result.task.X)).all()
    (feature,) = [feature for feature in result.task.schema("customers", "churn").features if feature.name == "since"]
    assert (feature.is_date, feature.unit, feature.missing > 0) == (True, "days since 1970-01-01", True)
    page = explore(compose(*overrides("since"), program="explore", **settings)).page.read_text()
    assert "days since 1970-01-01" in page


@pytest.mark.parametrize("program", [train, explore])
def test_what_no_model_can_learn_from_is_refused_by_name(settings: dict[str, Path], program: object) -> None:
    name = "train" if program is train else "explore"
    with pytest.raises(UserError) as refused:
        program(compose(*overrides("calls", "tenure", "note"), program=name, **settings))  # type: ignore[operator]
    durations, empty = refused.value.faults
    assert re.match("data: the column tenure holds periods or durations .*such as days, or leave it out", durations)
    assert empty == "data: the column note has no value in any row that is trained on; leave it out"
    with pytest.raises(
        UserError, match=r"target.column=churn: 7 of 200 rows have no label .*row 0, 1, 2, 3, 4, \.\.\."
    ):
        program(compose(*overrides("calls"), "+data.unlabelled=[0,1,2,3,4,5,6]", program=name, **settings))  # type: ignore[operator]


@pytest.mark.journey
def test_rows_are_called_what_the_data_set_calls_them(settings: dict[str, Path], predictor: Predictor) -> None:
    assert predictor.schema.noun == ["customer", "customers"]
    page = explore(compose(*overrides("calls"), program="explore", **settings)).page.read_text()
    assert "Such a customer is unusual" in page
    assert not re.search(r"\bwines?\b", re.sub(r"--wine\b|var\(--wine\)", "", page))


def test_rows_that_agree_by_chance_are_not_called_copies(settings: dict[str, Path]) -> None:
    result = explore(compose(*overrides("grade", "sex"), program="explore", **settings))
    assert re.search(r"equal an earlier one, which with so few different values they do by chance", result.summary)
    assert "They need not be copies" in result.page.read_text()


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    """The promoted model of the table, as a server loads it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(folder))
        columns = ",".join([*COLUMNS, "since"])
        overrides = ["data=customers", f"data.columns=[{columns}]", "split.n_splits=3", "model=logreg"]
        run_id = train(compose(*overrides, config_dir=folder / "conf")).run_id
        promote(compose(f"run={run_id}", "registry.name=wine", *LENIENT_GATE, program="promote"))
    store = Store(folder)
    fill_cache(store)
    version = CachedVersion("", "wine", 1, "", "", {}, [], "compiled", "", {}, {}, {})
    return loading.load(store.files(1), version, "champion", max_rows=1000)


@pytest.mark.journey
def test_a_version_predicts_rows_without_some_values_as_its_pipeline_does(predictor: Predictor, folder: Path) -> None:
    assert predictor.form == "compiled"
    fitted = persistence.load(Store(folder).files(1))
    table = frame()[[*COLUMNS, "since"]].iloc[:12]
    in_days = table.assign(since=dates.days(table["since"]))
    expected = fitted.predict_proba(in_days)
    body = table.to_json(orient="records", date_format="iso").encode()
    assert b"null" in body
    assert b"2021-02-08T" in body
    rows = predictor.parser.parse_json(body)
    assert np.array_equal(predictor.outputs(rows), expected)
    numbers = predictor.parser.parse_json(in_days.to_json(orient="records").encode())
    assert np.array_equal(predictor.outputs(numbers), expected)
    # pandas writes a missing value into a CSV file as nothing, and Python's json writes NaN.
    csv = mlflow.parse_csv(predictor.parser, table.to_csv().encode())
    assert np.array_equal(predictor.outputs(csv), expected)
    nan = predictor.parser.parse_json(body.replace(b"null", b"NaN"))
    assert np.array_equal(predictor.outputs(nan), expected)


@pytest.mark.journey
def test_only_values_that_training_never_missed_count_as_unlike_it(predictor: Predictor) -> None:
    row = {"calls": None, "day calls": 3, "plan": None, "active": True, "since": "2021-02-03"}
    (prediction,) = predictor.predict(predictor.parser.parse_objects([row]))
    assert prediction.out_of_range == []
    missing = dict.fromkeys([*COLUMNS, "since"])
    (prediction,) = predictor.predict(predictor.parser.parse_objects([missing]))
    assert prediction.out_of_range == ["day calls", "active"]
    (prediction,) = predictor.predict(predictor.parser.parse_objects([row | {"since": "2031-02-03"}]))
    assert prediction.out_of_range == ["since"]
    with pytest.raises(ProblemError) as refused:
        predictor.parser.parse_objects([row | {"since": "3/2/2021"}])
    wanted = "since: a date such as 2024-12-31, or a number (days since 1970-01-01), is wanted, got"
    assert wanted in refused.value.faults[0].detail
