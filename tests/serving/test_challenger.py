"""A challenger beside the champion: in the shadow, whatever happens to it, and with a share of the requests."""

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.serving.conftest import (
    Server,
    Store,
    children,
    children_of,
    composed_settings,
    copy_store,
    server_settings,
    serving,
)
from wineexp import UserError
from wineexp.core.config import Tracking
from wineexp.monitoring import prediction_log
from wineexp.serve import check
from wineexp.serving.answers import Answer
from wineexp.serving.challenger.shadow_process import ShadowProcess
from wineexp.serving.challenger.shadow_sender import MAX_WAITING_ROWS, ShadowSender
from wineexp.serving.challenger.shadow_worker import ShadowWorker
from wineexp.serving.challenger.traffic_split import is_challengers
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import NumberPrediction
from wineexp.serving.refresh.messages import RefreshPaths

CHAMPION, CHALLENGER = 2, 1


@pytest.fixture(scope="module")
def tested(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose version 2 is the champion and version 1 the challenger."""
    store = copy_store(promoted, tmp_path_factory.mktemp("challenger"))
    store.point(CHALLENGER, alias="challenger")
    return store


@pytest.fixture(scope="module")
def shadow(tested: Store) -> Iterator[Server]:
    """A server with a challenger in the shadow."""
    # Other tests leave no processor idle.
    with serving(
        tested, "serve.challenger=challenger", "serve.log=log", "serve.challenger_only_when_idle=false"
    ) as server:
        server.until(lambda: server.get("/readyz").json()["challenger"]["version"] or not ask(server))
        yield server


def sample(server: Server) -> dict[str, float]:
    return dict(sample_of(server.url))


@functools.cache
def sample_of(url: str) -> dict[str, float]:
    return dict(httpx.get(f"{url}/model", timeout=120).json()["schema"]["samples"][0]["row"])


def ask(server: Server, request_id: str = "warm", **headers: str) -> Any:
    response = server.post(
        "/predict",
        sample(server),
        headers={"content-type": "application/json", "x-request-id": request_id} | headers,
    )
    assert response.status_code == 200, response.text
    return response


def logged(store: Store, variant: str) -> pd.DataFrame:
    log = store.folder / "log"
    # The server makes the folder when it writes for the first time.
    frames = list(prediction_log.read(str(log), variant=variant)) if log.is_dir() else []
    return pd.concat(frames) if frames else pd.DataFrame({"request_id": []})


def test_in_the_shadow_the_challenger_answers_the_same_rows_for_the_log_alone(shadow: Server, tested: Store) -> None:
    response = ask(shadow, "one").json()
    assert response["model"]["version"] == CHAMPION
    assert "x-model-version" not in ask(shadow, "one more").headers
    rows = [sample(shadow), sample(shadow) | {"alcohol": 14.0}]
    shadow.post("/predict", rows, headers={"content-type": "application/json", "x-request-id": "two"})
    variants = ("champion", "challenger")
    shadow.until(lambda: all({"one", "two"} <= set(logged(tested, name)["request_id"]) for name in variants))
    by_champion, by_challenger = (logged(tested, name).set_index("request_id") for name in variants)
    assert (by_challenger.loc["one", "version"], by_champion.loc["one", "version"]) == (CHALLENGER, CHAMPION)
    assert by_challenger.loc["two", "row"].tolist() == [0, 1]
    assert by_challenger.loc["one", "time"] == by_champion.loc["one", "time"]
    # To the bit what the version predicts by itself.
    classes = response["predictions"][0]["probabilities"]
    expected = tested.load(CHALLENGER).predict_proba(pd.DataFrame([sample(shadow)]))[0]
    assert by_challenger.loc["one", [f"probability.{name}" for name in classes]].tolist() == pytest.approx(expected)
    assert shadow.metric("wineexp_challenger_rows_total", outcome="answered") >= 3


def test_a_challenger_that_is_killed_or_hangs_costs_no_request_and_comes_back(shadow: Server, tested: Store) -> None:
    (process,) = [pid for pid in children(shadow) if "shadow_worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(process, signal.SIGSTOP)
    started_at = time.monotonic()
    assert all(ask(shadow, f"hanging{number}").status_code == 200 for number in range(8))
    assert time.monotonic() - started_at < 10
    os.kill(process, signal.SIGKILL)
    assert all(ask(shadow, f"killed{number}").status_code == 200 for number in range(8))
    shadow.until(lambda: any(line["event"] == "challenger process died" for line in shadow.lines()))

    def answers_again() -> bool:
        ask(shadow, "after")
        return "after" in set(logged(tested, "challenger")["request_id"])

    shadow.until(answers_again)


def test_a_challenger_whose_alias_is_gone_or_names_the_champion_is_none(shadow: Server, tested: Store) -> None:
    tested.client.delete_registered_model_alias("wine", "challenger")
    shadow.until(lambda: ask(shadow) and shadow.get("/readyz").json()["challenger"]["version"] is None)
    assert "names nothing" in shadow.get("/readyz").json()["challenger"]["why"]
    tested.point(CHAMPION, alias="challenger")
    shadow.until(lambda: ask(shadow) and shadow.get("/readyz").json()["challenger"]["version"] == CHAMPION)
    assert "names the champion" in shadow.get("/readyz").json()["challenger"]["why"]
    tested.point(CHALLENGER, alias="challenger")


@pytest.mark.journey
def test_a_unit_has_the_same_version_again_from_every_worker(tested: Store) -> None:
    overrides = ("serve.challenger_mode=split", "serve.share=0.5", "serve.unit=X-Customer", "serve.workers=2")
    with serving(tested, "serve.challenger=challenger", "serve.log=log", *overrides) as server:
        # A worker without a challenger names no version. Each says once that it has one.
        server.until(
            lambda: [line["version"] for line in server.lines() if line["event"] == "challenger"].count(CHALLENGER) == 2
        )
        customers = [f"customer{number}" for number in range(12)] * 2
        answers = [ask(server, f"split{i}", **{"X-Customer": name}) for i, name in enumerate(customers)]
        versions = [int(answer.headers["x-model-version"]) for answer in answers]
        assert versions == [answer.json()["model"]["version"] for answer in answers]
        assert versions[:12] == versions[12:]
        assert 1 <= versions[:12].count(CHALLENGER) <= 11
        # Where the path names the version, that one answers.
        tensors = {"inputs": [{"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
                              for name, value in sample(server).items()]}  # fmt: skip
        path = f"/v2/models/wine/versions/{CHAMPION}/infer"
        assert {server.post(path, tensors, headers={"x-customer": name}).status_code for name in customers} == {200}
        server.until(
            lambda: "split0" in {*logged(tested, "champion")["request_id"], *logged(tested, "challenger")["request_id"]}
        )
    by_challenger = set(logged(tested, "challenger")["request_id"])
    assert [f"split{i}" in by_challenger for i in range(24)] == [version == CHALLENGER for version in versions]


def test_each_version_deals_the_units_anew_and_a_share_of_them_is_its_own() -> None:
    units, bound = [str(number).encode() for number in range(4000)], int(0.1 * 2**64)
    first, second = (
        np.array([is_challengers(unit, (version, "run", "files"), bound) for unit in units]) for version in (3, 4)
    )
    assert first.mean() == pytest.approx(0.1, abs=0.02)
    assert (first & second).mean() == pytest.approx(0.01, abs=0.01)


def test_rows_that_wait_for_a_challenger_too_long_are_dropped_and_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    sender = ShadowSender(tmp_path / "nobody.socket", metrics)
    answer: Any = type("Answer", (), {"outputs": np.zeros((MAX_WAITING_ROWS - 1, 1))})()
    sender.receive(answer)
    sender.receive(answer)
    assert b'wineexp_challenger_rows_total{outcome="dropped"} 9999.0' in metrics.text()[0]


def test_rows_that_the_challengers_log_cannot_take_are_counted_by_the_server(tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    settings = composed_settings(f"serve.log={tmp_path}/occupied/log")
    settings = replace(settings, tracking=Tracking(f"sqlite:///{tmp_path}/mlflow.db"))
    worker = ShadowWorker(settings, RefreshPaths(tmp_path / "refresh", tmp_path, tmp_path))
    parser = SimpleNamespace(features=["alcohol"], text_features=set())
    worker.follower.absent, worker.follower.predictor = (
        None,
        SimpleNamespace(  # type: ignore[assignment]
            lineage=SimpleNamespace(name="wine", version=CHALLENGER),
            schema=SimpleNamespace(classes=[], intervals=None),
            parser=parser,
            outputs=lambda rows: np.zeros((len(rows), 1)),
            predictions=lambda rows, _: [NumberPrediction(0.0)] * len(rows),
        ),
    )
    champion: Any = SimpleNamespace(lineage=SimpleNamespace(version=CHAMPION), parser=parser)
    metrics = Metrics()
    sender = ShadowSender(tmp_path / "shadow", metrics)

    async def ask_until_it_is_told() -> None:
        async with worker.log.written(None):
            server = await asyncio.start_unix_server(worker.converse, tmp_path / "shadow")
            async with sender.sending(None):
                deadline = time.monotonic() + 20
                while not metrics.count_dropped_rows() and time.monotonic() < deadline:
                    sender.receive(Answer(time.time(), 1.0, "one", champion, [(1.0,)], np.zeros((1, 1))))
                    await asyncio.sleep(0.1)
            server.close()
            # Until both ends of the connection are closed.
            await asyncio.sleep(0.2)

    asyncio.run(ask_until_it_is_told())
    assert metrics.count_dropped_rows() > 0
    assert sender.absent is not None
    assert sender.absent.startswith("its answers cannot be logged since ")


@pytest.mark.parametrize(("only_when_idle", "policy"), [("true", os.SCHED_IDLE), ("false", os.SCHED_BATCH)])
def test_the_shadow_takes_only_idle_time_unless_it_may_take_its_turn(
    tested: Store, tmp_path: Path, only_when_idle: str, policy: int
) -> None:
    settings = server_settings(
        tested, "serve.challenger=challenger", "serve.log=log", f"serve.challenger_only_when_idle={only_when_idle}"
    )
    before = children_of(os.getpid())
    with ShadowProcess(settings, RefreshPaths(*[tmp_path / "none"] * 3)):
        deadline = time.monotonic() + 30
        while [os.sched_getscheduler(pid) for pid in children_of(os.getpid()) if pid not in before] != [policy]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_settings_that_test_nothing_are_refused_together(tested: Store) -> None:
    overrides = ("serve.challenger=champion", "serve.challenger_mode=mirror", "serve.share=1", "serve.unit='a b'")
    with pytest.raises(UserError) as refusal:
        check(server_settings(tested, *overrides).serve)
    assert [fault.partition("=")[0] for fault in refusal.value.faults] == [
        *("serve.challenger_mode", "serve.share", "serve.unit", "serve.challenger")
    ]
    with pytest.raises(UserError, match=r"only logged, and serve.log=null logs nothing"):
        check(server_settings(tested, "serve.challenger=challenger").serve)
