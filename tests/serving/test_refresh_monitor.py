"""The refresh monitor, in this process, with a stand-in for the refresh process that needs no imports."""

import fcntl
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.serving import refresh_worker_stub
from tests.serving.conftest import Store, composed_settings, server_settings
from wineexp.serving import scratch
from wineexp.serving.model.cache import CachedVersion
from wineexp.serving.refresh import monitor, process
from wineexp.serving.refresh.change_detector import ChangeDetector, Fingerprint
from wineexp.serving.refresh.messages import AliasState, RefreshPaths, RefreshRequest, Refusal, encode_line
from wineexp.serving.refresh.monitor import RefreshMonitor
from wineexp.serving.refresh.process import RefreshProcess
from wineexp.serving.scratch import ScratchFolder

VERSION = CachedVersion("", "wine", 2, "run", "digest", {}, ["champion"], "compiled", "", {}, {}, {})


class Bench:
    """A running monitor, the registry that it sees, and the replies of its refresh process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.monitor: RefreshMonitor
        self.fingerprint: Fingerprint | None = Fingerprint(reachable=True, content="first")
        self.reply(AliasState(version=VERSION))

    def reply(self, state: AliasState) -> None:
        """Let the refresh process report a state at its next check."""
        temporary = self.folder / "reply.tmp"
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.replace(self.folder / "reply.json")

    def change_registry(self, content: str) -> None:
        self.fingerprint = Fingerprint(reachable=True, content=content)

    def requests(self) -> list[dict[str, Any]]:
        """The requests that refresh processes got, with their process ids."""
        path = self.folder / "requests.jsonl"
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def process_runs(self) -> bool:
        return self.monitor._process._process is not None

    def request(self, kind: str) -> Any:
        """The monitor's reply to a server; None where the connection ends without one."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.monitor.paths.socket))
            connection.sendall(encode_line(RefreshRequest(kind)))
            with connection.makefile("rb") as stream:
                line = stream.readline()
        return msgspec.json.decode(line) if line else None

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, (self.monitor.state, self.requests())
            time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    monkeypatch.setattr(process, "WORKER_MODULE", refresh_worker_stub.__name__)
    for module in (process, monitor):
        monkeypatch.setattr(module, "RESTART_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(ChangeDetector, "fingerprint", lambda _: bench.fingerprint)
    return bench


@contextmanager
def running(bench: Bench, *, idle_seconds: float = 60) -> Iterator[Bench]:
    settings = server_settings(
        Store(bench.folder),
        f"serve.cache_folder={bench.folder}",
        "serve.poll_interval_seconds=0.02",
        f"serve.verifier_idle_timeout_seconds={idle_seconds}",
    )
    with RefreshMonitor(settings) as bench.monitor:
        bench.until(lambda: bench.monitor.state.serial)
        yield bench


def test_the_registry_is_asked_only_when_it_may_have_changed(bench: Bench) -> None:
    with running(bench):
        assert bench.monitor.state.version == VERSION
        time.sleep(0.2)
        assert len(bench.requests()) == 1
        changed = msgspec.structs.replace(VERSION, number=3)
        bench.reply(AliasState(version=changed))
        bench.change_registry("second")
        bench.until(lambda: bench.monitor.state.version == changed)
        time.sleep(0.2)
        assert len(bench.requests()) == 2
        # On request it is asked although nothing has changed.
        assert bench.request("check")["version"]["number"] == 3
        assert len(bench.requests()) == 3
        # A registry without fingerprints is asked at each poll.
        bench.fingerprint = None
        bench.until(lambda: len(bench.requests()) > 5)


@pytest.mark.journey
def test_a_process_that_is_kept_ready_does_not_end(bench: Bench) -> None:
    bench.reply(AliasState(version=VERSION))
    with running(bench, idle_seconds=1.5):
        for _ in range(5):
            assert bench.request("prepare")["status"] == 200
            time.sleep(0.4)
        assert len({request["pid"] for request in bench.requests()}) == 1


@pytest.mark.journey
def test_an_idle_process_ends_and_the_next_one_knows_the_state(bench: Bench) -> None:
    refusal = Refusal(1, ("it is broken",), "2026-01-01T00:00:00+00:00", final=True)
    bench.reply(AliasState(version=VERSION, refusal=refusal, refusals=1, load_failures=1))
    with running(bench, idle_seconds=0.1):
        bench.until(lambda: not bench.process_runs())
        assert bench.monitor.state.unreachable is None
        assert bench.request("explain") == {"status": 200, "body": "explained", "detail": "", "faults": []}
        bench.until(lambda: not bench.process_runs())
        assert bench.request("check")["refusals"] == 1
        first, explanation, check = bench.requests()
        assert len({first["pid"], explanation["pid"], check["pid"]}) == 3
        assert explanation["request"]["state"]["version"]["number"] == 2
        assert check["request"]["state"]["refusal"] == msgspec.json.decode(msgspec.json.encode(refusal))


def test_a_refusal_that_is_not_final_is_tried_again(bench: Bench) -> None:
    refusal = Refusal(1, ("its files cannot be fetched",), "2026-01-01T00:00:00+00:00", final=False)
    bench.reply(AliasState(version=VERSION, refusal=refusal))
    with running(bench, idle_seconds=0.1):
        bench.until(lambda: len(bench.requests()) > 3)
        assert bench.process_runs()
        bench.reply(AliasState(version=VERSION))
        bench.until(lambda: bench.monitor.state.refusal is None)
        bench.until(lambda: not bench.process_runs())


@pytest.mark.journey
def test_a_registry_that_goes_and_comes_is_noticed_without_a_process_in_between(bench: Bench) -> None:
    with running(bench, idle_seconds=0.1):
        bench.until(lambda: not bench.process_runs())
        bench.reply(AliasState(version=VERSION, unreachable="since now: refused"))
        bench.fingerprint = Fingerprint(reachable=False)
        bench.until(lambda: bench.monitor.state.unreachable)
        bench.until(lambda: not bench.process_runs())
        asked = len(bench.requests())
        time.sleep(0.2)
        assert len(bench.requests()) == asked
        bench.reply(AliasState(version=VERSION))
        bench.change_registry("first")
        bench.until(lambda: bench.monitor.state.unreachable is None)
        bench.until(lambda: not bench.process_runs())


def test_a_registry_that_hangs_is_reported_before_the_process_has_waited_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, request = threading.Event(), RefreshProcess.request

    def wait_and_request(refresh_process: RefreshProcess, message: RefreshRequest) -> bytes:
        answered.wait(20)
        return request(refresh_process, message)

    with running(bench):
        monkeypatch.setattr(RefreshProcess, "request", wait_and_request)
        bench.fingerprint = Fingerprint(reachable=False)
        bench.until(lambda: "the registry does not answer" in str(bench.monitor.state.unreachable))
        bench.change_registry("first")
        answered.set()
        bench.until(lambda: bench.monitor.state.unreachable is None)


def test_a_process_that_dies_at_work_is_reported_and_started_again(bench: Bench) -> None:
    with running(bench):
        first = bench.requests()[0]["pid"]
        states = []
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(bench.monitor.paths.socket))
            connection.sendall(encode_line(RefreshRequest("follow")))
            with connection.makefile("rb") as stream:
                states.append(msgspec.json.decode(stream.readline(), type=AliasState))
                (bench.folder / "die").touch()
                bench.change_registry("second")
                states += [msgspec.json.decode(stream.readline(), type=AliasState) for _ in range(2)]
        assert [state.version for state in states] == [VERSION] * 3
        assert [state.serial for state in states] == [1, 2, 3]
        assert [bool(state.unreachable) for state in states] == [False, True, False]
        assert "the process that asks it has ended; it is started again" in str(states[1].unreachable)
        assert bench.requests()[-1]["pid"] != first
        # A server whose explanation is lost sees the connection end.
        (bench.folder / "die").touch()
        assert bench.request("explain") is None
        bench.until(lambda: bench.request("explain") is not None)


def test_a_process_that_died_before_it_read_its_settings_is_reported_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "WORKER_MODULE", "tests.serving.no_such_module")
    refresh_process = RefreshProcess(
        composed_settings(), bench.folder / "socket", RefreshPaths(bench.folder, bench.folder, bench.folder)
    )
    refresh_process.ensure_running()
    dead = refresh_process._process
    assert dead is not None
    assert dead.stdin is not None
    dead.wait()
    # Is flushed, in vain, when the pipe is closed.
    dead.stdin.write(b"unread")
    refresh_process.ensure_running()
    refresh_process.close()
    assert capsys.readouterr().out.count("refresh process died") == 1


def test_the_process_ends_with_its_monitor(bench: Bench) -> None:
    with running(bench):
        pid = bench.requests()[0]["pid"]
        os.kill(pid, 0)
        folder = bench.monitor.paths.socket.parent
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_one(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.folder / "file").touch()
    settings = server_settings(Store(bench.folder), f"serve.cache_folder={bench.folder}/file")
    with RefreshMonitor(settings) as started:
        assert started.paths.cache.parent == started.paths.socket.parent
    assert "cache not usable" in capsys.readouterr().out


def test_a_cache_folder_of_the_users_keeps_its_rights(bench: Bench) -> None:
    bench.folder.chmod(0o1777)
    with RefreshMonitor(server_settings(Store(bench.folder), f"serve.cache_folder={bench.folder}")) as started:
        assert started.paths.cache == bench.folder
    assert bench.folder.stat().st_mode & 0o7777 == 0o1777


def test_a_server_that_starts_leaves_the_folder_of_another_one_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock = fcntl.flock
    others: list[ScratchFolder] = []

    def start_another_and_lock(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not others:
            monkeypatch.setattr(fcntl, "flock", lock)
            others.append(ScratchFolder())
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", start_another_and_lock)
    folders = [ScratchFolder(), *others, ScratchFolder()]
    assert sorted(tmp_path.iterdir()) == sorted(folder.path for folder in folders)
    for folder in folders:
        folder.remove()


def test_the_folder_of_a_killed_server_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running_one = ScratchFolder()
    # The system takes a killed process's lock away, and leaves the file.
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    (left / scratch.LOCK).touch()
    other = ScratchFolder()
    assert sorted(tmp_path.iterdir()) == sorted([running_one.path, other.path])
    for folder in (running_one, other):
        folder.remove()
    assert list(tmp_path.iterdir()) == []
