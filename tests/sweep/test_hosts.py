"""A sweep on hosts of their own, which share no folder: killed workers, a killed database, Ctrl-C."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from tests import preloaded_python
from tests.sweep.conftest import XY, Toy
from tests.sweep.hosts import PORT, Host, Servers, connected_hosts

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

LEASE_SECONDS = 9
N_TRIALS = 100
TIMEOUT_SECONDS = 600
# MLflow's client would try again for minutes.
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2]), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@dataclass
class Cluster:
    """Four hosts that have the program, and one with the servers."""

    hosts: list[Host]
    servers: Servers

    def begin(self, study: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Begin a sweep on the first host."""
        node = f"{{_target_: wineexp.sweep.recorder.Recorder, uri: '{self.servers.tracking}', experiment: e}}"
        return self.hosts[0].start(
            *preloaded_python.command("app.py", "-m", *XY, "hydra/sweeper/storage=rdb"),
            *(f"hydra.sweeper.study_name={study}", f"hydra.sweeper.storage.url={self.servers.url}"),
            *(f"hydra.sweeper.lease={LEASE_SECONDS}", "hydra/sweeper/sampler=random"),
            *(f"+hydra.sweeper.callbacks.mlflow={node}", *arguments),
            environment=ENVIRONMENT,
        )

    def join(self, host: Host, study: str) -> "subprocess.Popen[bytes]":
        """Begin a worker on a host."""
        arguments = (f"study={study}", f"storage={self.servers.url}", "program=app.py")
        return host.start(*preloaded_python.command("-m", "wineexp.worker", *arguments), environment=ENVIRONMENT)

    def trials(self, study: str) -> list[FrozenTrial]:
        """The trials of a study, read over the database's socket."""
        socket = f"postgresql+psycopg://tester@/postgres?host={self.servers.home}&port={PORT}"
        storage = optuna.storages.RDBStorage(socket)
        try:
            names = [known.study_name for known in storage.get_all_studies()]
            return optuna.load_study(study_name=study, storage=storage).trials if study in names else []
        finally:
            storage.engine.dispose()

    def wait_for_running(self, study: str, host: Host, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a host runs a trial."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not any(
            trial.user_attrs["worker"].startswith(host.name) for trial in self.trials(study) if is_running(trial)
        ):
            assert process.poll() is None, host.log
            assert time.monotonic() < deadline, host.log
            time.sleep(0.5)

    def recorded_statuses(self, study: str) -> Counter[str]:
        """How many runs of a study MLflow has of each status."""
        query = (
            "SELECT status FROM runs WHERE run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' "
            "AND value IN (SELECT run_uuid FROM runs WHERE name = ?))"
        )
        with closing(sqlite3.connect(self.servers.host.folder / "mlflow.db")) as database:
            return Counter(status for (status,) in database.execute(query, [study]))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with connected_hosts(tmp_path_factory.mktemp("hosts"), 5) as machines:
        servers = Servers(machines[4])
        servers.start_mlflow()
        for host in machines[:4]:
            Toy(host.folder)
        yield Cluster(machines[:4], servers)
    shutil.rmtree(servers.home, ignore_errors=True)


def is_running(trial: FrozenTrial) -> bool:
    return not trial.state.is_finished()


def test_killed_workers_and_a_killed_database_cost_no_trial(cluster: Cluster) -> None:
    study = "survives"
    first, *others = cluster.hosts
    sweep = cluster.begin(study, f"hydra.sweeper.n_trials={N_TRIALS}", "sleep=0.2")
    cluster.wait_for_running(study, first, sweep)
    workers = [cluster.join(host, study) for host in others]
    killed: dict[str, float] = {}
    for host, worker in zip(others, workers, strict=True):
        cluster.wait_for_running(study, host, worker)
        os.kill(worker.pid, signal.SIGKILL)
        killed[host.name] = time.time()
        cluster.join(host, study)
    cluster.servers.kill_postgres()
    time.sleep(2)
    cluster.servers.start_postgres()
    assert sweep.wait(TIMEOUT_SECONDS) == 0, first.log
    trials = cluster.trials(study)
    assert not any(map(is_running, trials))
    finished = Counter(trial.user_attrs["slot"] for trial in trials if trial.state.name == "COMPLETE")
    assert finished == dict.fromkeys(range(N_TRIALS), 1), "a slot was filled twice, or not at all"
    dead = [trial for trial in trials if trial.user_attrs.get("ended") == "dead"]
    assert len(trials) == N_TRIALS + len(dead)
    assert len(dead) <= len(killed)
    outage = 2 + max(float(seconds) for seconds in [0, *_outages(cluster)])
    for trial in dead:
        moment = killed[trial.user_attrs["worker"].partition("/")[0]]
        assert isinstance(trial.datetime_complete, datetime)
        assert trial.datetime_complete.timestamp() - moment <= 2 * LEASE_SECONDS + outage
    assert cluster.recorded_statuses(study) == {"FINISHED": N_TRIALS}


def _outages(cluster: Cluster) -> list[str]:
    """For how many seconds each worker has waited for the database."""
    lines = "\n".join(host.log for host in cluster.hosts).splitlines()
    return [line.rpartition("after ")[2].removesuffix(" s") for line in lines if "database is back after" in line]


def test_ctrl_c_reaches_every_worker_on_every_host(cluster: Cluster) -> None:
    study = "stops"
    first, *others = cluster.hosts
    sweep = cluster.begin(study, "hydra.sweeper.n_trials=50", "sleep=120")
    cluster.wait_for_running(study, first, sweep)
    workers = [cluster.join(host, study) for host in others]
    for host, worker in zip(others, workers, strict=True):
        cluster.wait_for_running(study, host, worker)
    began = time.monotonic()
    os.kill(sweep.pid, signal.SIGINT)
    codes = [process.wait(TIMEOUT_SECONDS) for process in (sweep, *workers)]
    assert time.monotonic() - began <= 2 * LEASE_SECONDS
    assert all(codes), codes
    trials = cluster.trials(study)
    assert [trial.user_attrs["ended"] for trial in trials] == ["interrupted"] * 4
    assert cluster.recorded_statuses(study) == {"KILLED": 4}
    late = cluster.join(others[0], study)
    assert late.wait(TIMEOUT_SECONDS) == 1
    assert "was stopped by who began it: give its sweep's command again" in others[0].log


def test_the_last_worker_ends_a_study_whose_first_program_has_died(cluster: Cluster) -> None:
    study, n_trials = "orphan", 20
    first, *others = cluster.hosts
    # There are trials left when the last worker has begun.
    sweep = cluster.begin(study, f"hydra.sweeper.n_trials={n_trials}", "sleep=2")
    cluster.wait_for_running(study, first, sweep)
    workers = [cluster.join(host, study) for host in others[:2]]
    for host, worker in zip(others, workers, strict=False):
        cluster.wait_for_running(study, host, worker)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait(TIMEOUT_SECONDS)
    assert [worker.wait(TIMEOUT_SECONDS) for worker in workers] == [0, 0]
    finished = Counter(trial.user_attrs["slot"] for trial in cluster.trials(study) if trial.state.name == "COMPLETE")
    assert finished == dict.fromkeys(range(n_trials), 1)
    assert cluster.recorded_statuses(study) == {"FINISHED": n_trials}
    ends = [f"study {study} finished: {n_trials}/{n_trials}" in host.log for host in others[:2]]
    assert sorted(ends) == [False, True]


def test_what_could_not_be_recorded_while_mlflow_was_away_is_recorded_at_the_end(cluster: Cluster) -> None:
    study, n_trials = "unrecorded", 12
    first = cluster.hosts[0]
    sweep = cluster.begin(study, f"hydra.sweeper.n_trials={n_trials}", "sleep=1", "hydra.sweeper.refit_seed=null")
    cluster.wait_for_running(study, first, sweep)
    mlflow = cluster.servers.mlflow
    os.killpg(mlflow.pid, signal.SIGKILL)
    mlflow.wait(30)
    time.sleep(4)
    cluster.servers.start_mlflow()
    assert sweep.wait(TIMEOUT_SECONDS) == 0, first.log
    assert "Recorder.trial_end failed; the sweep goes on" in first.log
    assert {trial.state.name for trial in cluster.trials(study)} == {"COMPLETE"}
    assert cluster.recorded_statuses(study) == {"FINISHED": n_trials}
