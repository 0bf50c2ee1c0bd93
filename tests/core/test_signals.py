"""Signals reach a program even where Python drops the exception that their handler raises."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment
from wineexp.core.paths import ROOT

DROPPED = """
import contextlib, os, signal, sys, time, weakref
from wineexp.core.signals import Interrupts, stop

class Thing: pass

def when_gone(_):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.1)

signal.signal(signal.{name}, stop)
with {block}:
    thing = Thing()
    reference = weakref.ref(thing, when_gone)
    del thing
    print("dropped", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(
    ("block", "name", "last_line"),
    [
        ("contextlib.nullcontext()", "SIGINT", "KeyboardInterrupt"),
        ("contextlib.nullcontext()", "SIGTERM", ""),
        ("Interrupts()", "SIGTERM", "KeyboardInterrupt"),
    ],
)
def test_an_exception_that_python_drops_is_raised_again(block: str, name: str, last_line: str) -> None:
    code = DROPPED.format(block=block, name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "dropped\n"
    assert done.returncode != 0
    assert last_line in done.stderr.splitlines()[-1]


# The block ends before the signal is raised again, which without its handler would kill the process.
PUT_OFF_TO_THE_END = """
import time
from wineexp.core.signals import Interrupts

within_a_database = compile("import os, signal; os.kill(os.getpid(), signal.SIGUSR2)", "pool.py", "exec")
try:
    with Interrupts():
        exec(within_a_database, {"__name__": "sqlalchemy.pool"})
        print("put off", flush=True)
except KeyboardInterrupt:
    time.sleep(0.2)
    print("ended", flush=True)
"""


def test_a_signal_that_was_put_off_is_not_raised_once_more_after_the_block() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUT_OFF_TO_THE_END], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.returncode) == ("put off\nended\n", 0), done.stderr


# The end takes longer than the pause after which the exception of a signal is raised again.
SLOW_TO_END = """
import atexit, contextlib, os, signal, time
from wineexp.core.config import Fetch
from wineexp.core.program import program
from wineexp.core.signals import Interrupts

@program(Fetch)
def main(cfg):
    with {block}:
        os.kill(os.getpid(), signal.{name})
        time.sleep(30)

atexit.register(time.sleep, 1.5)
main()
"""


@pytest.mark.parametrize(
    ("block", "name", "code"),
    [
        ("contextlib.nullcontext()", "SIGINT", 130),
        pytest.param("contextlib.nullcontext()", "SIGTERM", 143, marks=pytest.mark.journey),
        pytest.param("Interrupts()", "SIGINT", 130, marks=pytest.mark.journey),
        ("Interrupts()", "SIGTERM", 143),
        pytest.param("Interrupts()", "SIGUSR2", 140, marks=pytest.mark.journey),
    ],
)
def test_a_program_exits_with_the_number_of_the_signal_however_long_its_end_takes(
    block: str, name: str, code: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW_TO_END.format(name=name, block=block)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "interrupted\n")


# The signal arrives within a transaction, whose connection goes back to the pool by a weak reference's callback.
WITHIN_A_DATABASE = """
import contextlib, gc, os, signal, time
import sqlalchemy
from wineexp.core.signals import Interrupts, handle_termination, uninterrupted

engine = sqlalchemy.create_engine("sqlite:///{folder}/own.db", connect_args={{"timeout": 0}})
with engine.begin() as connection:
    connection.execute(sqlalchemy.text("CREATE TABLE t (x INTEGER)"))

handle_termination()

@sqlalchemy.event.listens_for(engine, "reset")
def kill(*_):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.1)

def write():
    connection = engine.connect()
    connection.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))

with {block}:
    try:
        write()
        gc.collect()
        time.sleep(30)
    finally:
        sqlalchemy.event.remove(engine, "reset", kill)
        with uninterrupted(), engine.begin() as connection:
            connection.execute(sqlalchemy.text("INSERT INTO t VALUES (2)"))
            print("written", flush=True)
"""


@pytest.mark.parametrize("block", ["contextlib.nullcontext()", "Interrupts()"], ids=["run", "sweep"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_no_database_locked(name: str, block: str, tmp_path: Path) -> None:
    code = WITHIN_A_DATABASE.format(name=name, block=block, folder=tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.returncode != 0) == ("written\n", True), done.stderr
