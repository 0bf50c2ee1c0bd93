"""An MLflow server on PostgreSQL, as a team shares it: trainings and promotions at once, from processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import mlflow_server, run, run_concurrently
from wineexp.tracking.history import History
from wineexp.tracking.registry import Registry

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

QUICK = ("allow=[dirty]", "repeats=1", "gate.require=not_worse", "gate.margin=1", "gate.calibration_margin=1")


@pytest.fixture
def server(tmp_path: Path, postgres: str) -> Iterator[str]:
    """The address of an MLflow server whose records are in PostgreSQL and whose files are its own."""
    where = ["--workers", "2", "--backend-store-uri", postgres]
    files = ["--artifacts-destination", str(tmp_path / "artifacts")]
    with mlflow_server(tmp_path, "server", *where, *files) as address:
        yield address


def test_trainings_and_promotions_at_once_are_one_story(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"MLFLOW_TRACKING_URI": server}
    trained = run_concurrently(tmp_path, [("train", f"model={name}") for name in ("logreg", "xgb")], **there)
    assert [done.returncode for done in trained] == [0, 0], trained
    assert not [line for done in trained for line in done.stdout.splitlines() if "View run" in line]
    ids = [done.stdout.rpartition("Recorded as run ")[2].split()[0] for done in trained]
    promoted = run_concurrently(tmp_path, [("promote", f"run={run_id}", *QUICK) for run_id in ids], **there)
    assert [done.returncode for done in promoted] == [0, 0], promoted
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Registry(server, "wine")
    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert [decision.moves for decision in History(registry).decisions()] == [
        {"champion": [None, 1]},
        {"champion": [1, 2], "previous": [None, 1]},
    ]
    assert History(registry).faults() == []
    assert {
        registry.client.get_run(registry.version(number).run_id).data.tags["source.run_id"] for number in "12"
    } == set(ids)
    # What is stored there is what was registered.
    registry.load(registry.version("champion"))
    back = run(tmp_path, "promote", "rollback=true", **there)
    assert back.returncode == 0, back.stderr
    assert registry.aliases() == {"champion": 1, "previous": 2}
