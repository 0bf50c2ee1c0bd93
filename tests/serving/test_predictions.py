"""Predictions over HTTP: those of the stored model, and refusals that name every fault of a body."""

import json
import statistics
from itertools import compress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy import stats

from tests.serving.conftest import Server, Store, promote, serving
from wineexp import compose, train
from wineexp.data import schema
from wineexp.data.schema import NumericFeature, Schema
from wineexp.models import manifest, persistence
from wineexp.models.compiled.file_format import COMPILED, pack
from wineexp.models.compiled.flatten import flatten
from wineexp.serving.model.cache import CachedVersion
from wineexp.serving.model.loading import load

JSON = {"content-type": "application/json"}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an error, which has the form that all have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    for secret in ("Traceback", ".py", "site-packages", "/work", "/tmp"):
        assert secret not in response.text
    return body


def test_one_row_is_predicted_as_the_stored_model_predicts(server: Server, store: Store, row: dict[str, float]) -> None:
    response = server.post("/predict", row, headers=JSON | {"x-request-id": "mine-1"})
    assert response.status_code == 200
    content = response.json()
    assert content["request_id"] == response.headers["x-request-id"] == "mine-1"
    version = store.client.get_model_version("wine", "2")
    run = store.client.get_run(version.run_id)
    assert content["model"] == {
        "name": "wine",
        "alias": "champion",
        "version": 2,
        "run_id": version.run_id,
        "config_sha256": run.data.tags["config.sha256"],
        "data_md5": run.data.tags["data.md5"],
    }
    model = store.load(2)
    expected = model.predict_proba(pd.DataFrame([row]))[0]
    (prediction,) = content["predictions"]
    assert list(prediction["probabilities"].values()) == expected.tolist()
    assert list(prediction["probabilities"]) == [str(label) for label in model.classes_]
    assert prediction["class"] == str(model.classes_[expected.argmax()])
    assert prediction["out_of_range"] == []


# Of few trees, so that the probabilities of two classes are often close.
LOSS_MODEL = ["model=median", "model.loss=squared"]
CONFORMAL_MODEL = ["model=conformal", "model.coverage=0.6"]
FEW_TREES = ["model.estimator.n_estimators=20", "model.estimator.min_samples_leaf=5", "feature=raw"]


def rows_in_range(of_model: Schema) -> pd.DataFrame:
    """200 rows from all over the training range."""
    rng = np.random.default_rng(0)
    features = [feature for feature in of_model.features if isinstance(feature, NumericFeature)]
    return pd.DataFrame({feature.name: rng.uniform(feature.minimum, feature.maximum, 200) for feature in features})


def check_decisions_and_sets(predictions: list[Any], fitted: Any, rows: pd.DataFrame, name: str) -> None:
    """Compare predictions with those of the fitted pipeline, where they are more than the likeliest class."""
    probabilities, labels = fitted.predict_proba(rows), [str(label) for label in fitted.classes_]
    classes = [prediction["class"] for prediction in predictions]
    assert classes == [str(label) for label in fitted.predict(rows)]
    likeliest = [labels[position] for position in probabilities.argmax(axis=1)]
    assert (classes != likeliest) is (name == "median")
    sets = fitted[-1].prediction_sets(probabilities)
    expected = [None] * len(rows) if sets is None else [[*compress(labels, members)] for members in sets.tolist()]
    assert [prediction.get("prediction_set") for prediction in predictions] == expected
    assert (len({len(members or "") for members in expected}) > 1) is (name == "conformal")


@pytest.mark.parametrize("model", [LOSS_MODEL, CONFORMAL_MODEL], ids=["median", "conformal"])
def test_decisions_and_prediction_sets_are_those_of_the_model(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = train(compose("tracking=off", "split.n_splits=2", *model, *FEW_TREES))
    extra = tmp_path / "version" / manifest.EXTRA_FOLDER
    extra.mkdir(parents=True)
    (extra.parent / "MLmodel").write_text("mlflow_version: 3.17.0")
    skops.io.dump(trained.pipeline, extra.parent / persistence.MODEL_FILE)
    (extra / manifest.GOLDEN_ROWS_FILE).write_text(persistence.write_golden_rows(trained.pipeline, trained.task.X[:20]))
    (extra / schema.FILE_NAME).write_text(schema.to_json(trained.task.schema("cultivar", "cultivar")))
    version = CachedVersion("", "wine", 1, "", "", {}, [], "of a type that is not compiled", "", {}, {}, {})
    for form in ("of a type that is not compiled", COMPILED):
        predictor = load(extra.parent, version, "champion", max_rows=1000)
        assert predictor.form == form
        body = rows_in_range(predictor.schema).to_json(orient="records", double_precision=15).encode()
        predictions = msgspec.to_builtins(predictor.predict(predictor.parser.parse_json(body)))
        rows = pd.DataFrame(json.loads(body))
        check_decisions_and_sets(predictions, trained.pipeline, rows, model[0].removeprefix("model="))
        (extra / manifest.COMPILED_MODEL_FILE).write_bytes(pack(*flatten(trained.pipeline, trained.task.X)))


@pytest.mark.journey
@pytest.mark.parametrize("model", [LOSS_MODEL, CONFORMAL_MODEL], ids=["median", "conformal"])
def test_decisions_and_prediction_sets_are_served(model: list[str], own_store: Store) -> None:
    name = model[0].removeprefix("model=")
    promote(own_store.folder, *model, *FEW_TREES, name=name)
    fitted = own_store.load(1, name=name)
    with serving(own_store, f"registry.name={name}") as server:
        described = server.get("/model").json()
        assert described["form"] == COMPILED
        rows = rows_in_range(msgspec.convert(described["schema"], type=Schema))
        predictions = server.post("/predict", rows.to_dict("records")).json()["predictions"]
    check_decisions_and_sets(predictions, fitted, rows, name)


def test_many_rows_are_predicted_in_their_order(server: Server) -> None:
    samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
    many = server.post("/predict", samples * 20).json()["predictions"]
    one_by_one = [server.post("/predict", [sample]).json()["predictions"][0] for sample in samples]
    assert many == one_by_one * 20


def test_a_row_outside_the_training_range_is_predicted_and_marked(server: Server, row: dict[str, float]) -> None:
    (prediction,) = server.post("/predict", row | {"alcohol": 40, "hue": -1e6}).json()["predictions"]
    assert prediction["out_of_range"] == ["alcohol", "hue"]
    assert np.isclose(sum(prediction["probabilities"].values()), 1)


def test_a_value_may_be_missing_and_is_marked_where_training_missed_none(
    server: Server, store: Store, row: dict[str, float]
) -> None:
    expected = store.load(2).predict_proba(pd.DataFrame([row | {"alcohol": np.nan}]))
    for value in ("null", "NaN"):
        body = json.dumps(row | {"alcohol": 0}).replace('"alcohol": 0', f'"alcohol": {value}')
        (prediction,) = server.post("/predict", body).json()["predictions"]
        assert prediction["out_of_range"] == ["alcohol"]
        assert list(prediction["probabilities"].values()) == expected[0].tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"13"', 'a number (% vol) is wanted, got the text "13"'),
        ("true", "a number (% vol) is wanted, got true"),
        ("[1]", "a number (% vol) is wanted, got an array"),
        ("{}", "a number (% vol) is wanted, got an object"),
        ("-Infinity", "a number (% vol) is wanted, got -Infinity; it must be finite"),
        ("1e400", "1e400 is beyond"),
        ("1" * 400, "11111"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(server: Server, row: dict[str, float], value: str, message: str) -> None:
    body = json.dumps([row, row | {"alcohol": 0}]).replace('"alcohol": 0', f'"alcohol": {value}')
    (fault,) = problem(server.post("/predict", body), 422)["errors"]
    assert message in fault["detail"]
    assert fault["detail"].startswith("row 1, alcohol: ")
    assert (fault["pointer"], fault["row"], fault["field"]) == ("/1/alcohol", 1, "alcohol")


def test_all_faults_of_a_body_are_listed(server: Server, row: dict[str, float]) -> None:
    whole = json.dumps(row)
    without = {name: value for name, value in row.items() if name != "ash"}
    twice = whole.replace('"hue"', '"hue": 1, "hue"')
    body = f"[{json.dumps(without | {'alcool': 1})}, {twice}, 7, {whole}]"
    faults = {fault["pointer"]: fault["detail"] for fault in problem(server.post("/predict", body), 422)["errors"]}
    assert list(faults) == ["/0/alcool", "/0/ash", "/1/hue", "/2"]
    assert "did you mean alcohol?" in faults["/0/alcool"]
    assert faults["/0/ash"] == "row 0, ash: is missing; a number is wanted"
    assert faults["/1/hue"] == "row 1, hue: is given more than once"
    assert "an object of 13 features is wanted, got 7" in faults["/2"]


def test_a_body_that_is_wrong_everywhere_gets_a_short_response(server: Server) -> None:
    content = problem(server.post("/predict", [{}] * 10000), 422)
    assert content["detail"] == "130000 faults in the body, the first 100 of them listed"
    assert len(content["errors"]) == 100


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b'{"alcohol": 1,}', "not JSON"),
        (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
        (b'{"alcohol": ' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b"[" * 100_000, "a bracket is not closed: byte 100000"),
        (b'[{"alcohol}]', "a string is not closed: byte 2"),
        (b"[{}}", "a comma or ] is wanted: byte 3"),
        (b"[{} {}]", "a comma or ] is wanted: byte 4"),
        (b"[{}] []", "nothing is wanted after this bracket: byte 3"),
        (b"[{},]", "a value is wanted: byte 4"),
        (b'{"alc\xffohol": 1}', "not UTF-8: byte 5 is 0xff"),
        (b'{"alcohol": "\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused_with_the_reason(server: Server, body: bytes, message: str) -> None:
    assert message in problem(server.post("/predict", body), 400)["detail"]


@pytest.mark.parametrize("body", ["[]", "7", "null", '"text"', "[[1, 2]]", '{"\\ud800": 1}', '["\\ud800"]'])
def test_json_that_is_no_row_is_refused(server: Server, body: str) -> None:
    assert problem(server.post("/predict", body), 422)["errors"]


def test_an_escaped_name_is_the_same_name(server: Server, row: dict[str, float]) -> None:
    plain = json.dumps(row)
    escaped = server.post("/predict", plain.replace('"alcohol"', '"\\u0061lcohol"'))
    assert escaped.json()["predictions"] == server.post("/predict", plain).json()["predictions"]
    both = plain.replace('"alcohol"', '"\\u0061lcohol": 1, "alcohol"')
    (fault,) = problem(server.post("/predict", both), 422)["errors"]
    assert fault["pointer"] == "/alcohol"


def test_more_rows_than_a_request_may_hold_are_refused(server: Server, row: dict[str, float]) -> None:
    body = json.dumps([dict.fromkeys(row, 1)] * 10_001, separators=(",", ":"))
    content = problem(server.post("/predict", body), 422)
    assert content["errors"][0]["detail"] == "more than 10000 rows; at most so many may be in one request"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_another_content_type_is_refused(server: Server, row: dict[str, float], content_type: str) -> None:
    response = server.post("/predict", row, headers={"content-type": content_type})
    assert "this path accepts" in problem(response, 415)["detail"]


def test_paths_methods_and_types_that_are_not_there(server: Server, row: dict[str, float]) -> None:
    problem(server.get("/nothing/here"), 404)
    refused = server.get("/predict")
    problem(refused, 405)
    assert "POST" in refused.headers["allow"]
    problem(server.post("/predict", row, headers=JSON | {"accept": "text/html"}), 406)
    assert server.post("/predict", row, headers=JSON | {"accept": "text/html, */*;q=0.1"}).status_code == 200
    assert httpx.head(f"{server.url}/livez").status_code == 200


def test_the_model_is_described(server: Server, store: Store) -> None:
    content = server.get("/model").json()
    run = store.client.get_run(content["model"]["run_id"])
    assert content["tags"]["data.md5"] == run.data.tags["data.md5"]
    low, mean, high = (content["metrics"][f"cv/accuracy{suffix}"] for suffix in ("_low", "", "_high"))
    assert mean == run.data.metrics["cv/accuracy"]
    assert low < mean < high <= 1
    scores = [point.value for point in store.client.get_metric_history(run.info.run_id, "fold/accuracy")]
    corrected_share = 1 / len(scores) + float(run.data.tags["split.test_to_train"])
    half_width = stats.t.ppf(0.975, len(scores) - 1) * (corrected_share * statistics.variance(scores)) ** 0.5
    assert mean - low == pytest.approx(half_width)
    assert content["aliases"] == ["champion"]
    assert content["card"].startswith("# ")
    described = store.client.get_model_version("wine", "2").description
    assert described.startswith("**xgb** on raw features of cultivar, to predict cultivar")
    assert described.endswith("Model card: `extra_files/card.md` among the files of the model.")
    assert sorted(content["schema"]["ranking"]) == sorted(each["name"] for each in content["schema"]["features"])
    alcohol = content["schema"]["features"][0]
    assert (alcohol["name"], alcohol["unit"], alcohol["kind"]) == ("alcohol", "% vol", "number")
    assert alcohol["minimum"] < alcohol["median"] < alcohol["maximum"]
    assert content["stale"] is False
    assert content["golden_max_difference"] <= 1e-6


def test_readyz_names_the_served_version(server: Server) -> None:
    assert server.get("/livez").json() == {"alive": True}
    content = server.get("/readyz").json()
    assert content["ready"] is True
    assert content["model"]["version"] == 2
    assert content["workers"] == [server.process.pid]
    assert (content["stale"], content["registry"], content["refused"]) == (False, "reachable", None)


def test_metrics_have_few_labels(server: Server, row: dict[str, float]) -> None:
    before = server.metric("wineexp_predictions_total")
    label = server.post("/predict", [row] * 3).json()["predictions"][0]["class"]
    assert server.metric("wineexp_predictions_total") == before + 3
    assert server.metric("wineexp_predictions_total", **{"class": label}) >= 3
    for path in ("/a", "/b", "/predict/c"):
        server.get(path)
    assert server.metric("wineexp_requests_total", route="none", status="404") >= 3
    assert server.metric("wineexp_request_duration_seconds_count", route="/predict", method="POST") >= 1
    assert server.metric("wineexp_model_info", version="2", alias="champion") == 1
    assert server.metric("wineexp_registry_up") == 1
    text = server.get("/metrics").text
    assert "/nothing" not in text
    assert "/predict/c" not in text


@pytest.mark.parametrize("media_type", ["text/plain", "application/openmetrics-text"])
def test_metrics_come_in_the_one_format_that_is_accepted(server: Server, media_type: str) -> None:
    response = server.get("/metrics", headers={"accept": f"{media_type};version=1.0.0"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith(f"{media_type}; version=")
    assert response.headers["content-type"].count("charset") == 1
    assert response.text.endswith("# EOF\n") is (media_type != "text/plain")


def test_logs_are_json_with_request_ids(server: Server, row: dict[str, float]) -> None:
    server.post("/predict", row, headers=JSON | {"x-request-id": "to-be-content"})
    server.post("/predict", row, headers=JSON | {"x-request-id": "forged\tid"})
    server.until(lambda: "to-be-content" in server.log.read_text())
    (content,) = [line for line in server.lines() if line.get("request_id") == "to-be-content"]
    assert (content["method"], content["route"], content["status"]) == ("POST", "/predict", 200)
    assert "forged" not in server.log.read_text()
