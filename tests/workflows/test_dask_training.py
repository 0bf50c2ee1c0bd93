"""`data.engine=dask`: the run of `data.engine=external`, trained on the workers of a cluster."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port, new_database
from tests.workflows.test_external import config, folder  # noqa: F401
from wineexp import UserError, compose, reproduce, train

pytestmark = [
    pytest.mark.journey,
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed"),
]

# With a bin for each value, their edges do not depend on who has which rows; nor does what is drawn, where nothing is.
SETTINGS = ["+model.max_bin=4096", "model.subsample=1"]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, which are started again when they are lost."""
    from distributed import LocalCluster

    from wineexp.core import dask_workers

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address
        # Else it would look for the scheduler once that is closed.
        dask_workers.connect(cluster.scheduler_address).client.close()


def test_it_scores_as_on_one_machine_and_is_reproduced_after_a_worker_was_lost(
    scheduler: str,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wineexp.core import dask_workers

    monkeypatch.chdir(folder)
    new_database(folder)
    alone = train(config(folder, *SETTINGS, "tracking=off"))
    uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    spread = train(config(folder, *SETTINGS, uri, "data.engine=dask", f"+data.scheduler={scheduler}"))
    for name in ("roc_auc", "log_loss"):
        assert spread.scores[name][0] == pytest.approx(alone.scores[name][0], abs=1e-6)
        assert spread.holdout[name] == pytest.approx(alone.holdout[name], abs=1e-6)

    client = dask_workers.connect(scheduler).client
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    certificate = reproduce(compose(f"run={spread.run_id}", uri, "strict=false", program="reproduce"))
    assert certificate.first_difference is None
    assert [(pair.recorded, pair.now) for pair in certificate.origin if pair.name == "dask.workers"] == [("2", "2")]

    monkeypatch.setattr(dask_workers, "_file_sizes", lambda paths: ("far", ["No such file or directory"] * len(paths)))
    with pytest.raises(
        UserError, match=r"on host far cannot read 1 of 1 files .*: .*a\.parquet \(No such file"
    ) as error:
        dask_workers.connect(scheduler).check_files([folder / "a.parquet"])
    assert len(error.value.faults) == 2


def test_a_scheduler_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from wineexp.core import dask_workers

    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 1.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"data.scheduler={address}: no scheduler with a worker answers"):
        dask_workers.connect(address)
