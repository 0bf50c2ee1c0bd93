"""Claims of slots, leases of workers and outages of the database, on SQLite in place of a server."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from wineexp.core.errors import UserError
from wineexp.sweep import leases as leases_module
from wineexp.sweep import outages
from wineexp.sweep import storage as storage_module
from wineexp.sweep._optuna import storage_of
from wineexp.sweep.heartbeat import Heartbeat
from wineexp.sweep.joining import StoredCommand, is_of_the_call, joining_arguments, load_command
from wineexp.sweep.leases import Leases
from wineexp.sweep.ledger import Budget, Ledger
from wineexp.sweep.samplers import slot_of
from wineexp.sweep.slots import DEAD
from wineexp.sweep.storage import _connection_limits, rdb

LEASE = 3.0


class Clock:
    """The monotonic clock of a process that looks at leases."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases_module, "time", clock)
    return clock


@pytest.fixture
def open_leases(tmp_path: Path) -> Callable[[], Leases]:
    """Opens the leases of a study, as each process does for itself."""

    def open_() -> Leases:
        leases = Leases(create_engine(f"sqlite:///{tmp_path}/leases.db"), 1, LEASE, 0)
        leases.create_table()
        return leases

    return open_


def watch(leases: Leases, clock: Clock, seconds: float) -> None:
    """Let a process beat, and thereby look, for so long."""
    for _ in range(round(seconds / leases.beat_seconds)):
        clock.now += leases.beat_seconds
        leases.beat("watcher")


def test_a_worker_that_shows_no_life_for_a_lease_is_lost_within_two(
    clock: Clock, open_leases: Callable[[], Leases]
) -> None:
    mine, other = open_leases(), open_leases()
    other.begin("other")
    mine.begin("watcher")
    for _ in range(5):
        other.beat("other")
        watch(mine, clock, LEASE / 3)
    assert mine.beats()["other"] == 5
    watch(mine, clock, LEASE)
    assert not mine.is_lost("other"), "its last beat was seen a lease ago at most"
    watch(mine, clock, LEASE / 3)
    assert mine.is_lost("other")
    assert not mine.is_lost("watcher")


def test_a_worker_without_a_lease_is_lost_after_one(clock: Clock, open_leases: Callable[[], Leases]) -> None:
    leases = open_leases()
    leases.begin("watcher")
    assert not leases.is_lost("gone")
    watch(leases, clock, 4 / 3 * LEASE)
    assert leases.is_lost("gone")


def test_after_an_outage_every_lease_begins_anew(clock: Clock, open_leases: Callable[[], Leases]) -> None:
    mine, other = open_leases(), open_leases()
    other.begin("other")
    mine.begin("watcher")
    clock.now += 10 * LEASE
    assert not mine.is_lost("other"), "this process did not look"
    mine.beat("watcher")
    assert not mine.is_lost("other"), "the other one has had no time to beat since"
    watch(mine, clock, 4 / 3 * LEASE)
    assert mine.is_lost("other")


def test_one_of_two_gets_what_is_claimed_and_takes_it_over_from_the_dead(open_leases: Callable[[], Leases]) -> None:
    first, second = open_leases(), open_leases()
    assert first.claim("refit", "a", lambda _: False)
    assert first.claim("refit", "a", lambda _: False), "it has it already"
    assert not second.claim("refit", "b", lambda _: False)
    assert second.claim("refit", "b", lambda holder: holder == "a")
    assert second.holder("refit") == "b"
    second.end("refit")
    assert first.claim("refit", "a", lambda _: False)


def test_every_worker_reads_at_its_next_beat_that_it_is_to_stop(open_leases: Callable[[], Leases]) -> None:
    leases = open_leases()
    leases.begin("a")
    open_leases().stop("b")
    assert not leases.is_stopped
    leases.beat("a")
    assert leases.is_stopped
    open_leases().resume()
    leases.beat("a")
    assert not leases.is_stopped


@pytest.mark.parametrize("is_main", [True, False], ids=["main thread", "thread of a launcher's process"])
def test_a_task_ends_when_the_study_is_to_stop(is_main: bool, open_leases: Callable[[], Leases]) -> None:
    leases = open_leases()
    leases.seconds = 0.3
    ended: list[str] = []

    def work() -> None:
        with Heartbeat(leases, "a") as heartbeat:
            open_leases().stop("b")
            try:
                with heartbeat.stopping_task():
                    deadline = time.monotonic() + 20
                    while time.monotonic() < deadline:
                        time.sleep(0.01)
            except KeyboardInterrupt:
                ended.append("interrupted")

    if is_main:
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert ended == ["interrupted"]


def test_the_trial_of_a_task_that_does_not_end_is_closed_all_the_same(open_leases: Callable[[], Leases]) -> None:
    leases = open_leases()
    leases.seconds = 0.3
    closed = threading.Event()

    def work() -> None:
        with Heartbeat(leases, "a", closed.set) as heartbeat:
            open_leases().stop("b")
            try:
                with heartbeat.stopping_task():
                    # It hears nothing, as a library that computes.
                    assert closed.wait(20)
                    sum(range(1000))
            except KeyboardInterrupt:
                pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert closed.is_set()


def ledger_of(url: str, folder: Path) -> Ledger:
    storage = rdb(folder, url)
    study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
    return Ledger(study, storage_of(study), folder, Budget(9, None, 1))


def random_sampler(_: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler()


def test_of_two_workers_that_have_seen_the_same_trials_one_gets_the_slot(tmp_path: Path) -> None:
    first, second = (ledger_of(f"sqlite:///{tmp_path}/s.db", tmp_path) for _ in range(2))
    second.worker_id = "other:1:1"
    second.slots()
    assert first.start_next_trial(random_sampler).user_attrs["slot"] == 0
    assert second._claim(0, {}) is None
    assert second.start_next_trial(random_sampler).user_attrs["slot"] == 1
    assert [slot_of(trial) for trial in first.trials()] == [0, 1]


def test_a_trial_whose_creation_was_not_answered_is_taken_up_by_its_worker(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/s.db", tmp_path)
    ledger.slots()
    first = ledger._claim(0, {})
    # An outage has hidden the answer, so that the claim is repeated.
    assert ledger._claim(0, {}) == first
    assert len(ledger.trials()) == 1


def test_a_worker_that_was_taken_for_dead_keeps_the_result_that_it_stored_first(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/s.db", tmp_path)
    trial = ledger.start_next_trial(random_sampler)
    trial.set_user_attr("ended", DEAD)
    assert ledger.close(trial, TrialState.COMPLETE, [1.0])
    slots = ledger.slots()
    assert (slots.open, slots.n_finished) == (set(), 1)


@pytest.fixture
def outage() -> OperationalError:
    return OperationalError("SELECT", {}, Exception("the server is gone"))


def test_an_outage_is_waited_out_and_other_errors_are_not(
    monkeypatch: pytest.MonkeyPatch, outage: OperationalError
) -> None:
    clock = Clock()
    monkeypatch.setattr(outages, "time", clock)
    call = Mock(side_effect=[outage, outage, "answer"])
    assert outages.wait_out(call, 60) == ("answer", True)
    call = Mock(side_effect=outage)
    began = clock.now
    with pytest.raises(OperationalError):
        outages.wait_out(call, 60)
    assert 60 <= clock.now - began <= 70
    for error, seconds in ((outage, 0), (ValueError(), 60)):
        call = Mock(side_effect=error)
        with pytest.raises(type(error)):
            outages.wait_out(call, seconds)
        assert call.call_count == 1


def test_a_trial_that_this_process_closed_before_an_outage_counts_as_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: OperationalError
) -> None:
    monkeypatch.setattr(outages, "FIRST_PAUSE_SECONDS", 0.0)
    ledger = ledger_of(f"sqlite:///{tmp_path}/s.db", tmp_path)
    trial = ledger.start_next_trial(random_sampler)
    storage = ledger.storage
    storage.max_outage = 60
    close = storage._cached.set_trial_state_values
    answers = iter([outage])

    def close_without_an_answer(*args: object) -> bool:
        closed = close(*args)
        for error in answers:
            raise error
        return closed

    monkeypatch.setattr(storage._cached, "set_trial_state_values", close_without_an_answer)
    assert ledger.close(trial, TrialState.COMPLETE, [1.0])
    assert not ledger.close(trial, TrialState.COMPLETE, [2.0]), "another result is not this process's"


def test_a_worker_that_joins_gets_the_command_without_what_is_about_one_call(tmp_path: Path) -> None:
    about_calls = ("hydra.mode=MULTIRUN", "hydra/launcher=dask", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_workers=4",
                   "hydra.sweeper.storage.url=sqlite:///a", "hydra/sweeper/storage=rdb")  # fmt: skip
    assert all(map(is_of_the_call, about_calls))
    kept = ("hydra.sweeper.n_trials=4", "hydra/sweeper/sampler=random", "hydra.sweeper.storages=1", "model=xgb")
    assert not any(map(is_of_the_call, kept))
    command = StoredCommand(["-m", "wineexp.train"], ["model=xgb"])
    words = joining_arguments(command, "s", "postgresql://user:secret@host/db", ["n_jobs=2"])
    assert words[:4] == ["-m", "wineexp.train", "-m", "model=xgb"]
    assert "secret" not in " ".join(words)
    assert words[-1] == "n_jobs=2"
    ledger = ledger_of(f"sqlite:///{tmp_path}/s.db", tmp_path)
    with pytest.raises(UserError, match=r"study=t: the storage has no such study; choices: s"):
        load_command(ledger.storage, "t")
    with pytest.raises(UserError, match="was not begun by a sweep of this version"):
        load_command(ledger.storage, "s")


@pytest.mark.parametrize(
    ("url", "limits"),
    [
        ("postgresql+psycopg://h/d", {"connect_timeout", "tcp_user_timeout", "keepalives_idle"}),
        ("postgresql://h/d?connect_timeout=3", {"tcp_user_timeout", "keepalives_idle"}),
        ("mysql+pymysql://h/d", {"connect_timeout"}),
        ("mysql://h/d", {"connect_timeout"}),
        ("postgresql+pg8000://h/d", set()),
    ],
)
def test_a_driver_gets_the_limits_that_it_knows_and_the_address_does_not_state(url: str, limits: set[str]) -> None:
    assert set(_connection_limits(url)) == limits


@pytest.mark.parametrize(
    ("message", "ends"),
    [("(1050, \"Table 'studies' already exists\")", "opened"), ('(2003, "Can\'t connect to the server")', "raised")],
)
def test_of_processes_that_make_the_tables_at_once_all_open_the_database(
    message: str, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So MySQL says it; it has no transactions for tables.
    error = OperationalError("CREATE TABLE studies", {}, Exception(message))
    monkeypatch.setattr(storage_module, "TABLE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(storage_module, "ClaimingStorage", Mock(side_effect=[error, Mock()]))
    monkeypatch.setattr(storage_module, "patient", lambda database: database)
    if ends == "opened":
        rdb(tmp_path, "mysql+pymysql://h/d")
    else:
        with pytest.raises(OperationalError):
            rdb(tmp_path, "mysql+pymysql://h/d")
