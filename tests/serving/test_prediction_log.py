"""A server that logs what it answers, and takes the truth."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import wineexp.feedback
from tests.serving.conftest import Server, Store, copy_store, serving
from wineexp import compose
from wineexp.core.errors import UserError
from wineexp.monitoring import prediction_log, verdicts

KEYS = {"PREDICTIONS_KEY": "key"}
HEADERS = {"content-type": "application/json", "x-api-key": "key"}


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def logged(promoted: Path, tmp_path_factory: pytest.TempPathFactory, log_folder: Path) -> Iterator[Server]:
    """A server of two processes that logs all but one feature."""
    store = copy_store(promoted, tmp_path_factory.mktemp("store"))
    settings = [f"serve.log={log_folder}", "serve.log_without=[ash]", "serve.workers=2"]
    with serving(store, *settings, "serve.keys.predictions=PREDICTIONS_KEY", **KEYS) as server:
        yield server


@pytest.fixture(scope="module")
def row(logged: Server) -> dict[str, float]:
    return dict(logged.get("/model").json()["schema"]["samples"][0]["row"])


def ask(server: Server, path: str, body: Any, request_id: str) -> httpx.Response:
    response = server.post(path, body, headers=HEADERS | {"x-request-id": request_id})
    assert response.status_code == 200, response.text
    return response


def read(folder: Path, **wanted: Any) -> pd.DataFrame:
    return pd.concat(prediction_log.read(str(folder), **wanted), ignore_index=True)


def until_logged(folder: Path, request_id: str) -> pd.DataFrame:
    deadline = time.monotonic() + 20
    while True:
        log = read(folder) if any(folder.iterdir()) else pd.DataFrame({"request_id": []})
        if request_id in set(log["request_id"]):
            return log
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_protocol_is_logged_with_what_it_answered(
    logged: Server, row: dict[str, float], log_folder: Path
) -> None:
    values = list(row.values())
    far = row | {"alcohol": 99.0, "hue": None}
    answer = ask(logged, "/predict", row, "fast").json()["predictions"][0]
    far_answer = ask(logged, "/predict", [row, far], "two").json()["predictions"][1]
    ask(logged, "/predict", [row] * 600, "many")
    ask(logged, "/invocations", {"dataframe_split": {"columns": list(row), "data": [values]}}, "mlflow")
    ask(logged, "/v1/models/wine:predict", {"instances": [row]}, "v1")
    tensor = {"name": "rows", "shape": [1, len(values)], "datatype": "FP64", "data": values}
    ask(logged, "/v2/models/wine/infer", {"inputs": [tensor]}, "v2")
    # What is not answered is not logged.
    assert logged.post("/predict", row | {"hue": "x"}, headers=HEADERS | {"x-request-id": "no"}).status_code == 422
    ask(logged, "/predict", row, "last")
    expected = {"fast": 1, "two": 2, "many": 600, "mlflow": 1, "v1": 1, "v2": 1, "last": 1}
    # Several processes write them, each when it comes to it.
    for request in expected:
        log = until_logged(log_folder, request)
    assert dict(log["request_id"].value_counts()) == expected
    assert list(log[log["request_id"] == "many"]["row"]) == list(range(600))
    assert set(log["version"]) == {2}
    assert set(log["variant"]) == {"champion"}
    assert log["latency_ms"].between(0.01, 60_000).all()
    assert "input.ash" not in log
    classes = list(answer["probabilities"])
    for _, each in log[log["row"] == 0].iterrows():
        assert each["decision"] == answer["class"]
        assert {name: each[f"probability.{name}"] for name in classes} == answer["probabilities"]
        assert {name: each[f"input.{name}"] for name in row if name != "ash"} == {
            name: value for name, value in row.items() if name != "ash"
        }
    second = log[(log["request_id"] == "two") & (log["row"] == 1)].iloc[0]
    assert second["outside"].split(", ") == far_answer["out_of_range"] == ["alcohol", "hue"]
    assert second["input.alcohol"] == 99.0
    assert pd.isna(second["input.hue"])
    assert logged.metric("wineexp_log_rows_total") == len(log)
    ready = logged.get("/readyz").json()
    assert (ready["log"], ready["log_rows_dropped"]) == ("written", 0)


def test_what_the_monitor_last_said_is_shown(logged: Server, log_folder: Path) -> None:
    assert logged.get("/monitor").json() | {"model": None} == {"model": None, "drift": None, "live_test": None}
    assert logged.metric("wineexp_monitor_rows") == 0
    test = {"log_e_value": 2.0, "needed": 4.0}
    said = {
        **{"model": "wine", "version": 2, "when": "2026-11-01T00:00:00+00:00", "alarm": True, "shifted": ["hue"]},
        **{"rows": 7, "labels": 3, "with_labels": test, "without_labels": None, "unlike_training": test},
    }
    verdicts.write(str(log_folder), "wine", 2, verdicts.DRIFT, said)
    # Of another version nothing is shown.
    verdicts.write(str(log_folder), "wine", 1, verdicts.LIVE_TEST, {"lines": []})
    assert logged.get("/monitor").json()["drift"] == said
    assert logged.get("/monitor").json()["live_test"] is None
    labels = {"model": "wine", "version": "2"}
    values = {"alarm": 1, "rows": 7, "labels": 3, "shifted_columns": 1, "last_run_timestamp_seconds": 1793491200}
    assert {name: logged.metric(f"wineexp_monitor_{name}", **labels) for name in values} == values
    assert logged.metric("wineexp_monitor_evidence", test="with_labels") == 0.5
    verdicts.path_of(str(log_folder)).unlink()  # type: ignore[union-attr]


def test_feedback_joins_what_was_logged(
    logged: Server, row: dict[str, float], log_folder: Path, tmp_path: Path
) -> None:
    ask(logged, "/predict", [row, row, row], "asked")
    assert logged.post("/feedback", {"request_id": "asked", "truth": 1}).status_code == 401
    assert ask(logged, "/feedback", {"request_id": "asked", "truth": 1}, "f").json() == {"stored": 1}
    ask(logged, "/feedback", [{"request_id": "asked", "row": 2, "truth": "3"}, {"request_id": "no", "truth": 1}], "f")
    until_logged(log_folder, "asked")
    (tmp_path / "truth.csv").write_text(
        "\ufeffrow;request_id;truth;who\n0;asked;2.0;me\n1;gone;3;me\n", encoding="utf-8"
    )
    result = wineexp.feedback(compose(f"file={tmp_path}/truth.csv", f"log={log_folder}", program="feedback"))
    assert (result.stored, result.counts.joined, result.counts.unjoined_ids) == (2, 1, ["gone, 1"])
    joined = pd.concat(prediction_log.read_with_truth(str(log_folder), columns=["decision"]))
    assert dict(zip(joined["row"], joined["truth"], strict=True)) == {0: "2", 2: "3"}
    schema = logged.get("/schema").json()
    assert set(schema["paths"]["/feedback"]["post"]["responses"]) >= {"200", "401", "422", "503"}


def test_all_faults_of_feedback_are_told_at_once(logged: Server, log_folder: Path) -> None:
    before = sum(map(len, prediction_log.read_truths(str(log_folder)))) if any(log_folder.iterdir()) else 0
    wrong = [
        {"request_id": "right", "truth": 1},
        {"request_id": "a b", "truth": None, "row": -1},
        {"request_id": "a", "truth": [1], "label": 2},
        3,
    ]
    response = logged.post("/feedback", wrong, headers=HEADERS)
    assert response.status_code == 422
    faults = response.json()["errors"]
    pointers = ["/1/request_id", "/1/row", "/1/truth", "/2", "/2/truth", "/3"]
    assert [fault["pointer"] for fault in faults] == pointers
    assert [logged.post("/feedback", body, headers=HEADERS).status_code for body in (b"{", b"[]", b"{}")] == [
        400,
        422,
        422,
    ]
    after = sum(map(len, prediction_log.read_truths(str(log_folder)))) if any(log_folder.iterdir()) else 0
    assert after == before, "of a request with faults nothing is stored"


def test_a_server_without_a_log_says_so(server: Server) -> None:
    response = server.post("/feedback", {"request_id": "a", "truth": 1})
    assert response.status_code == 404
    assert "serve.log=" in response.json()["detail"]
    assert server.get("/readyz").json()["log"] == "off"
    assert "/feedback" not in server.get("/schema").json()["paths"]


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("request_id,row,truth\n,0,1\na,-1,\nb,0,2\n")
    (tmp_path / "log").mkdir()
    settings = [f"file={truth}", f"log={tmp_path}/log"]
    with pytest.raises(UserError) as refused:
        wineexp.feedback(compose(*settings, program="feedback"))
    places = [fault.removeprefix(f"file={truth}: ").partition(":")[0] for fault in refused.value.faults]
    assert places == ["line 2, request_id", "line 3, truth", "line 3, row"]
    assert list((tmp_path / "log").iterdir()) == []
    truth.write_text("id,label\n")
    with pytest.raises(UserError, match=r"the column request_id is missing; .*\n.*the column truth is missing"):
        wineexp.feedback(compose(*settings, program="feedback"))
    with pytest.raises(UserError, match=r"no such folder.*\n.*no such file"):
        wineexp.feedback(compose(f"file={tmp_path}/no.csv", f"log={tmp_path}/no", program="feedback"))


@pytest.mark.journey
def test_a_log_that_fails_costs_no_answer(own_store: Store, tmp_path: Path, row: dict[str, float]) -> None:
    """Where the database is dead, or the folder cannot be written, rows are lost and counted, and nothing else."""
    (tmp_path / "occupied").touch()
    for address in ("postgresql://nobody@127.0.0.1:1/none", str(tmp_path / "occupied" / "log")):
        with serving(own_store, f"serve.log={address}") as server:
            started_at = time.monotonic()
            for _ in range(200):
                assert server.post("/predict", row).status_code == 200
            assert time.monotonic() - started_at < 30
            server.until(lambda server=server: server.metric("wineexp_log_dropped_rows_total") == 200)  # type: ignore[misc]
            ready = server.get("/readyz").json()
            assert ready["ready"]
            assert ready["log"].startswith("since ")
            assert ready["log_rows_dropped"] == 200
            assert server.metric("wineexp_log_up") == 0
            response = server.post("/feedback", {"request_id": "a", "truth": 1})
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert server.stop() == 0
            assert "secret" not in json.dumps(server.lines())


def test_settings_that_cannot_be_are_refused_together(own_store: Store) -> None:
    wrong = [
        "serve.log_rate=0",
        "serve.log_max_days=-1",
        "serve.log_max_bytes=0",
        "serve.log=mysql://me:secret@host/db",
    ]
    with pytest.raises(UserError) as refused:
        wineexp.serve(compose(*wrong, f"tracking.uri={own_store.uri}", program="serve"))
    assert [fault.partition("=")[0] for fault in refused.value.faults] == [
        *("serve.log_rate", "serve.log_max_days", "serve.log_max_bytes", "serve.log")
    ]
    assert "secret" not in str(refused.value)
