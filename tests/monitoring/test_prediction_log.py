"""The prediction log: what was written is read, whoever was killed, whatever is full."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest

from tests.conftest import postgres_server
from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.monitoring import folder as log_folder
from wineexp.monitoring import journal, prediction_log, segments, writer
from wineexp.monitoring.folder import FolderStore
from wineexp.monitoring.format import Layout, predictions_layout, truth_text
from wineexp.monitoring.writer import Writer

CLASSES = predictions_layout("wine", 1, [("ash", False), ("kind", True)], classes=["a", "b"])
NUMBERS = predictions_layout("wine", 2, [("ash", False)], has_interval=True)
START = 1_760_000_000_000_000


def class_row(number: int, **values: Any) -> tuple[Any, ...]:
    row = {"ash": 0.1 + number, "kind": "old", "outside": ""} | values
    moment = START + 1_000_000 * number
    return (moment, f"r{number}", 0, 1.5, row["outside"], "a", 0.75, 0.25, row["ash"], row["kind"])


def number_row(number: int) -> tuple[Any, ...]:
    return (START + 1_000_000 * number, f"n{number}", 0, 2.5, "", 7.1, 6.9, 7.3, 0.5)


def encoded(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Layout, list[bytes]]]:
    return [(CLASSES, [*map(journal.encode, rows)])]


def read(address: Path | str, **wanted: Any) -> pd.DataFrame:
    return pd.concat(prediction_log.read(str(address), **wanted), ignore_index=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write_sample(address: str) -> None:
    """Two processes' rows, in turns, of two versions with other columns."""
    first, second = prediction_log.open_store(address), prediction_log.open_store(address)
    first.write(CLASSES, [class_row(0), class_row(4, ash=float("nan"), kind=None, outside="ash, kind")])
    second.write(NUMBERS, [number_row(1), number_row(5)])
    second.write(CLASSES, [class_row(2), class_row(3)])
    for store in (first, second):
        store.close()


def check_sample(address: str) -> None:
    log = read(address)
    assert list(log["request_id"]) == ["r0", "n1", "r2", "r3", "r4", "n5"]
    assert list(log["version"]) == [1, 2, 1, 1, 1, 2]
    assert log["time"][1] == pd.Timestamp(START + 1_000_000, unit="us", tz="UTC")
    assert list(log["input.ash"][[0, 1]]) == [0.1, 0.5]
    assert log.loc[4, ["input.ash", "input.kind"]].isna().all()
    assert log["outside"][4] == "ash, kind"
    assert list(log["number.low"].dropna()) == [6.9, 6.9]
    assert list(log["decision"].dropna().unique()) == ["a"]
    only = read(address, version=1, since="2025-10-09T08:53:22", until=log["time"][4], columns=["probability.a"])
    assert list(only["probability.a"]) == [0.75, 0.75]
    assert "input.ash" not in only
    assert list(prediction_log.read(address, model="beer")) == []


def test_rows_of_several_writers_and_versions_are_read_in_order_of_time(folder: Path) -> None:
    write_sample(str(folder))
    check_sample(str(folder))
    assert segments.seal(folder) == 0, "reading has made segments of the journals"
    check_sample(str(folder))
    assert list(pd.read_parquet(folder / "wine" / "version-1")["request_id"]) == ["r0", "r4", "r2", "r3"]


@pytest.mark.journey
def test_a_database_holds_what_a_folder_holds(tmp_path: Path) -> None:
    with postgres_server(tmp_path) as address:
        deadline = time.monotonic() + 60
        while True:
            try:
                write_sample(address)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        check_sample(address)
        prediction_log.append_truths(address, [(START, "r2", 0, "b"), (START, "r2", 0, "a"), (START, "n1", 0, "7")])
        joined = pd.concat(prediction_log.read_with_truth(address))
        assert dict(zip(joined["request_id"], joined["truth"], strict=True)) == {"r2": "a", "n1": 7.0}
        old = prediction_log.open_store(address, max_age_days=1, max_bytes=None)
        today = (time.time_ns() // 1000, *class_row(9)[1:])
        old.write(CLASSES, [today])
        old._maintained_at -= 1e6  # type: ignore[attr-defined]
        old.maintain()
        old.close()
        assert list(read(address)["request_id"]) == ["r9"]
    store = prediction_log.open_store(address)
    with pytest.raises(OSError, match="refused"):
        store.write(CLASSES, [class_row(0)])
    with pytest.raises(UserError, match="the database did not answer"):
        read(address)


def test_a_line_that_was_cut_off_is_left_out(folder: Path) -> None:
    store = FolderStore(folder)
    store.write(CLASSES, [class_row(0), class_row(1)])
    (path,) = journal.names(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert list(read(folder)["request_id"]) == ["r0"]
    # As a machine without power may leave it.
    head, first, second = whole.splitlines(keepends=True)
    path.write_bytes(head + first + b"\x00\x00\n" + second)
    assert list(read(folder)["request_id"]) == ["r0", "r1"]


def test_a_row_is_read_once_wherever_making_a_segment_was_killed(folder: Path) -> None:
    store = FolderStore(folder)
    store.write(CLASSES, [class_row(0)])
    (path,) = journal.names(folder)
    content = path.read_bytes()
    store.close()
    segments.seal(folder)
    # The segment was there, and its journal not yet gone.
    path.write_bytes(content)
    assert len(read(folder)) == 1
    assert len(pd.read_parquet(folder / "wine")) == 1
    # The segment was half written.
    (folder / "wine" / "version-1" / ".half.parquet").write_bytes(b"PAR1")
    assert len(read(folder)) == 1


@pytest.mark.journey
def test_a_killed_process_loses_at_most_the_last_second(folder: Path) -> None:
    code = f"""
import time
from pathlib import Path
from wineexp.monitoring.folder import FolderStore
from wineexp.monitoring.writer import Writer
from tests.monitoring.test_prediction_log import class_row, encoded
writer = Writer(FolderStore(Path({str(folder)!r})), encoded, int, int, bool)
writer.start()
for number in range(10**6):
    writer.put(class_row(number), 1, 10)
    print(number, time.time(), flush=True)
    time.sleep(0.002)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    put = {}
    for line in process.stdout:
        number, moment = line.split()
        put[int(number)] = float(moment)
        if len(put) > 1 and float(moment) - put[0] > 2.5:
            break
    process.send_signal(signal.SIGKILL)
    killed_at = time.time()
    process.communicate()
    logged = {int(each.removeprefix("r")) for each in read(folder)["request_id"]}
    lost = [number for number, moment in put.items() if number not in logged and killed_at - moment > 1]
    assert lost == []
    assert len(logged) > 100


def test_a_full_disk_loses_rows_and_nothing_else(disk: Path) -> None:
    counts = {"written": 0, "dropped": 0}
    log = Writer[tuple[Any, ...]](
        FolderStore(disk / "log"),
        encoded,
        lambda rows: counts.update(written=counts["written"] + rows),
        lambda rows: counts.update(dropped=counts["dropped"] + rows),
        bool,
    )

    def put_and_flush(start: int) -> None:
        for number in range(start, start + 300):
            log.put(class_row(number), 1, 10)
        log._flush()

    put_and_flush(0)
    assert counts == {"written": 300, "dropped": 0}
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    while not log.failing:
        put_and_flush(1000)
    assert "No space" in log.failing
    assert counts["dropped"] > 0
    filler.unlink()
    put_and_flush(5000)
    assert log.failing is None
    log._flush()
    assert len(read(disk / "log")) == counts["written"], "no row is there in part, or twice"


class Stuck:
    """A store that does not return."""

    def __init__(self) -> None:
        self.released = Event()

    def encode(self, row: Any) -> Any:
        return row

    def write_encoded(self, layout: Layout, rows: Sequence[Any]) -> None:
        self.released.wait()

    def maintain(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """Nothing is open."""


def test_what_the_buffer_cannot_hold_is_dropped_and_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING_VALUES", 1000)
    store, dropped = Stuck(), []
    log = Writer[int](store, lambda taken: [(CLASSES, taken)], int, dropped.append, bool)  # type: ignore[list-item]
    log.start()
    log.put(0, 1, 10)
    time.sleep(2 * writer.FLUSH_SECONDS)
    started_at = time.monotonic()
    for number in range(300):
        log.put(number, 1, 10)
    assert time.monotonic() - started_at < 0.2
    assert sum(dropped) == 200
    store.released.set()
    log.close()


@pytest.fixture
def aged(folder: Path) -> Iterator[Path]:
    """A log of three segments of a day each, 3, 2 and 0 days old."""
    for age in (3, 2, 0):
        moment = time.time_ns() // 1000 - 86_400_000_000 * age
        store = FolderStore(folder)
        store.write(CLASSES, [(moment, f"{age} days", *class_row(0)[2:])])
        store.write_truths([(moment, f"{age} days", 0, "a")])
        store.close()
        segments.seal(folder)
    return folder


def test_what_is_too_old_is_deleted(aged: Path) -> None:
    segments.remove_old(aged, max_age_seconds=2.5 * 86_400, max_bytes=None)
    assert list(read(aged)["request_id"]) == ["2 days", "0 days"]
    truths = pd.concat(prediction_log.read_truths(str(aged)))
    assert list(truths["request_id"]) == ["2 days", "0 days"]


@pytest.mark.journey
def test_a_server_has_journals_made_segments_and_old_ones_deleted(aged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_folder, "JOURNAL_SECONDS", 0.0)
    monkeypatch.setattr(log_folder, "MAINTENANCE_SECONDS", 0.0)
    store = FolderStore(aged, max_age_days=2.5)
    store.write(CLASSES, [(time.time_ns() // 1000, "new", *class_row(0)[2:])])
    store.maintain()
    assert store._process is not None
    assert store._process.wait(120) == 0
    assert journal.names(aged) == []
    assert list(pd.read_parquet(aged / "wine")["request_id"]) == ["2 days", "0 days", "new"]
    store.maintain()
    assert store._process.poll() == 0, "where no journal was closed, there is nothing to do for an hour"


def test_the_oldest_is_deleted_where_all_takes_too_much(aged: Path) -> None:
    total = sum(path.stat().st_size for path in aged.rglob("*.parquet"))
    segments.remove_old(aged, max_age_seconds=None, max_bytes=total // 2)
    assert list(read(aged)["request_id"]) == ["0 days"]


def test_an_address_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for address in ("mysql://user:secret@host/name", str(tmp_path / "file")):
        with pytest.raises(UserError, match="a log is a folder") as refused:
            prediction_log.check_address("serve.log", address)
        assert "secret" not in str(refused.value)
    with pytest.raises(UserError, match="no such folder"):
        list(prediction_log.read(str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("value", "text"),
    [(5, "5"), (5.0, "5"), ("5.0", "5"), (" white ", "white"), (True, "True"), (0.1, "0.1"), ("-1.50", "-1.50"),
     ("007", "007"), (1e300, "1e+300")],
)  # fmt: skip
def test_a_class_has_one_spelling(value: Any, text: str) -> None:
    assert truth_text(value) == text


def test_segments_are_private_where_the_umask_says_so(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        write_sample(str(folder))
        check_sample(str(folder))
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
