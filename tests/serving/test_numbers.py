"""A model of numbers, promoted and served: every protocol gives what its pipeline predicts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver

from tests.conftest import new_database
from tests.houses import CONFIGS, houses, write_houses
from tests.serving.conftest import Server, Store, fill_cache, serving
from tests.serving.test_page import Page
from wineexp import UserError, compose, promote, train
from wineexp.models import persistence
from wineexp.tracking.history import History
from wineexp.tracking.registry import Registry

ROWS = [{"area": 80.0, "district": "good"}, {"area": 120.5, "district": "plain"}, {"area": None, "district": "good"}]
# How long one row takes here depends on what else runs.
QUICK = ("allow=[dirty]", "repeats=1", "gate.row_milliseconds=60000")


def train_on(folder: Path, *overrides: str) -> str:
    chosen = ["data=houses", "target=price", "split.n_splits=3", *overrides]
    return train(compose(*chosen, config_dir=folder / CONFIGS)).run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a promoted version, and a cache that holds it."""
    folder = tmp_path_factory.mktemp("houses")
    write_houses(folder)
    new_database(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        run_id = train_on(folder, "model=histgb", "model.max_iter=20", "target.transform=log1p")
        result = promote(compose(f"run={run_id}", *QUICK, program="promote"))
        assert result.version is not None
        assert result.version.number == 1
        store = Store(folder)
        fill_cache(store)
        yield store


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Server]:
    with serving(store) as running:
        yield running


@pytest.fixture(scope="module")
def expected(store: Store) -> list[float]:
    """What the pipeline predicts."""
    return list(persistence.load(store.files(1)).predict(pd.DataFrame(ROWS)).tolist())


def test_the_gate_compares_errors_and_the_mean_is_the_floor(store: Store) -> None:
    (first, *_) = History(Registry(store.uri, "wine")).decisions()
    rules = {reason.partition(":")[0]: reason for reason in first.why}
    assert set(rules) - {"dirty"} == {"row_milliseconds", "megabytes", "better_than_mean", "served", "baseline"}
    assert "must be less than" in rules["better_than_mean"]
    assert "linear is ahead on the same folds, root_mean_squared_error" in rules["baseline"]
    run = store.client.get_run(store.client.get_model_version("wine", "1").run_id)
    assert {"fold/root_mean_squared_error", "holdout/baseline_root_mean_squared_error"} <= set(run.data.metrics)


def test_another_alias_gets_the_same_version(store: Store) -> None:
    source = store.client.get_run(store.client.get_model_version("wine", "1").run_id).data.tags["source.run_id"]
    result = promote(compose(f"run={source}", *QUICK, "alias=staging", program="promote"))
    assert result.version is not None
    assert result.version.number == 1
    *_, last = History(Registry(store.uri, "wine")).decisions()
    assert any(reason.startswith("better_than_mean") for reason in last.why)


@pytest.mark.journey
def test_what_the_gate_says_of_other_kinds_is_refused(store: Store) -> None:
    source = store.client.get_run(store.client.get_model_version("wine", "1").run_id).data.tags["source.run_id"]
    with pytest.raises(UserError, match=r"gate.floors.roc_auc"):
        promote(compose(f"run={source}", *QUICK, "alias=other", "gate.floors.roc_auc=0.8", program="promote"))
    with pytest.raises(UserError, match=r"baseline: a LogisticRegression predicts classes, .* model@baseline=\.\.\."):
        promote(compose(f"run={source}", *QUICK, "alias=other", "model@baseline=logreg", program="promote"))
    mean = train_on(store.folder, "model=majority")
    with pytest.raises(UserError) as refused:
        promote(compose(f"run={mean}", *QUICK, program="promote"))
    faults = {fault.partition(":")[0]: fault for fault in refused.value.faults}
    assert set(faults) == {"refused by better_than_mean", "refused by better"}
    assert "worse than version 1's on the same folds" in faults["refused by better"]


def test_the_card_speaks_of_numbers(store: Store) -> None:
    card = (store.files(1) / "extra_files/card.md").read_text()
    assert "It predicts price as a number, of which it learns the logarithm, from 12" in card
    assert "root mean squared error of always answering the mean of the training rows" in card
    for part in (
        "## Errors",
        "## Slices",
        "The numbers of price kEUR",
        "| district = good |",
        "baseline, linear",
        "## Intervals",
    ):
        assert part in card
    assert "class" not in card.replace("Classifier", "").replace("classif", "").partition("## Lineage")[0]


def test_predict_answers_with_a_number(server: Server, expected: list[float]) -> None:
    response = server.post("/predict", ROWS).json()
    assert [prediction["prediction"] for prediction in response["predictions"]] == expected
    assert [prediction["out_of_range"] for prediction in response["predictions"]] == [[], [], ["area"]]
    assert response["model"]["version"] == 1
    # One row takes another path through the server.
    (one,) = server.post("/predict", ROWS[0]).json()["predictions"]
    assert one["prediction"] == expected[0]
    low, high = one["interval"]
    assert low < expected[0] < high
    assert "class" not in one
    assert "probabilities" not in one


def test_it_is_compiled_and_described(server: Server) -> None:
    model = server.get("/model").json()
    assert (model["form"], model["golden_max_difference"]) == ("compiled", 0)
    assert model["schema"]["classes"] == []
    assert (model["schema"]["numbers"]["name"], model["schema"]["numbers"]["unit"]) == ("price", "kEUR")
    assert model["schema"]["metric"] == "root_mean_squared_error"
    samples = [float(sample["label"]) for sample in model["schema"]["samples"]]
    assert len(samples) == 15
    assert samples == sorted(samples)
    page = server.get("/schema").json()
    answer = page["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/PredictNumbersResponse"}
    assert page["components"]["schemas"]["RequestedOutput"]["properties"]["name"]["enum"] == ["interval", "prediction"]


def test_mlflows_protocol_answers_with_plain_numbers(server: Server, expected: list[float]) -> None:
    for body in ({"dataframe_records": ROWS}, {"dataframe_split": pd.DataFrame(ROWS).to_dict("split")}):
        content = json.dumps(body).replace("NaN", "null")
        assert server.post("/invocations", content).json() == {"predictions": expected}
    csv = server.post("/invocations", pd.DataFrame(ROWS).to_csv(), headers={"content-type": "text/csv"})
    assert csv.json() == {"predictions": expected}
    assert server.post("/v1/models/wine:predict", {"instances": ROWS}).json() == {"predictions": expected}


def test_open_inference_has_one_output_of_numbers(server: Server, expected: list[float]) -> None:
    described = server.get("/v2/models/wine").json()["outputs"]
    assert described == [
        {"name": "prediction", "datatype": "FP64", "shape": [-1, 1]},
        {"name": "interval", "datatype": "FP64", "shape": [-1, 2]},
    ]
    intervals = [each["interval"] for each in server.post("/predict", ROWS).json()["predictions"]]
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    kinds = {"area": "FP64", "district": "BYTES"}
    tensors = [{"name": name, "datatype": kinds[name], "shape": [3, 1], "data": columns[name]} for name in columns]
    answer, ends = server.post("/v2/models/wine/infer", {"inputs": tensors}).json()["outputs"]
    assert (ends["shape"], ends["data"]) == ([3, 2], [end for interval in intervals for end in interval])
    assert answer == {"name": "prediction", "datatype": "FP64", "shape": [3, 1], "data": expected}
    binary = {"inputs": tensors, "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}
    assert server.post("/v2/models/wine/infer", binary).content.endswith(np.array(expected, "<f8").tobytes())
    refused = server.post("/v2/models/wine/infer", {"inputs": tensors, "outputs": [{"name": "probabilities"}]})
    assert refused.status_code == 422
    assert "named prediction or interval" in refused.text


def test_metrics_have_a_histogram_of_predictions(server: Server, expected: list[float]) -> None:
    before = [server.metric(f"wineexp_prediction_{name}") for name in ("count", "sum")]
    server.post("/predict", ROWS)
    server.post("/invocations", {"dataframe_records": ROWS})
    after = [server.metric(f"wineexp_prediction_{name}") for name in ("count", "sum")]
    assert after[0] - before[0] == 6
    assert after[1] - before[1] == pytest.approx(2 * sum(expected))
    # Not one series for each number.
    assert server.metric("wineexp_predictions_total") == 0


def test_an_explanation_is_in_units_of_the_target(server: Server, expected: list[float]) -> None:
    explained = server.post("/explain", ROWS[0]).json()
    attribution = explained["attribution"]
    assert attribution["unit"] == "kEUR"
    assert "class" not in attribution
    assert attribution["output_value"] == pytest.approx(expected[0])
    total = attribution["base_value"] + sum(attribution["contributions"].values())
    assert total == pytest.approx(expected[0])
    assert attribution["contributions"]["district"] > 0
    assert explained["counterfactual"] is None
    changes = {change["feature"]: change for change in explained["changes"]}
    assert changes["district"]["highest"] == {"value": "good", "prediction": expected[0]}
    for feature, change in changes.items():
        for end in ("lowest", "highest"):
            changed = ROWS[0] | {feature: change[end]["value"]}
            (again,) = server.post("/predict", changed).json()["predictions"]
            assert again["prediction"] == change[end]["prediction"]
    assert changes["area"]["lowest"]["prediction"] < expected[0] < changes["area"]["highest"]["prediction"]


def test_intervals_hold_nine_of_ten_new_houses(store: Store, server: Server) -> None:
    new = houses(2000, seed=1)
    body = new[["area", "district"]].to_dict("records")
    predictions = [
        each
        for start in (0, 1000)
        for each in server.post("/predict", body[start : start + 1000]).json()["predictions"]
    ]
    ends = np.array([prediction["interval"] for prediction in predictions])
    held = (ends[:, 0] <= new["price"]) & (new["price"] <= ends[:, 1])
    assert 0.87 < held.mean() < 0.95
    # The same as its run recorded of other folds and of the holdout.
    run = store.client.get_run(store.client.get_model_version("wine", "1").run_id).data.metrics
    for part in ("cv", "holdout"):
        assert run[f"{part}/interval_coverage"] == pytest.approx(0.9, abs=0.06)
        assert run[f"{part}/interval_width"] == pytest.approx((ends[:, 1] - ends[:, 0]).mean(), rel=0.2)
        assert 0 < run[f"{part}/crps"] < run[f"{part}/mean_absolute_error"]
        assert run[f"{part}/pinball"] > 0
    assert "cv/baseline_interval_coverage" not in run


def test_the_page_shows_a_number_its_interval_and_what_would_change_it(
    driver: webdriver.Chrome, server: Server, tmp_path: Path
) -> None:
    driver.get_log("browser")
    page = Page(driver, server)
    page.until(lambda: "kEUR" in page.label)
    assert page.text("prediction-status") == "Predicted price"
    assert re.fullmatch(r"Between \d+ and \d+ kEUR for 90 % of such houses\.", page.text("prediction-set"))
    page.until(lambda: "district alone: from" in page.text("counterfactual-text"), 60)
    assert re.search(r"get \d+ kEUR on average, this house \d+ kEUR\. A bar shows what", page.text("attribution-text"))
    assert re.search(r"[+\N{MINUS SIGN}]\d+ kEUR", page.text("contributions"))
    houses(5).to_csv(tmp_path / "five.csv", index=False)
    page.find("tab-batch").click()
    page.find("file").send_keys(str(tmp_path / "five.csv"))
    page.until(lambda: "5 of 5 houses predicted" in page.text("summary"))
    assert re.search(r"predicted: \d+ to \d+ kEUR, on average \d+ kEUR\.", page.text("summary"))
    assert "price, kEUR from to remarks" in page.text("results").replace("\n", " ")
    page.find("tab-live").click()
    page.until(lambda: re.search(r"\d+ to \d+", page.text("classes")))
    assert page.text("by-class") == "Predictions by size"
    assert driver.get_log("browser") == []
