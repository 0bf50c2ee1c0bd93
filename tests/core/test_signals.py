"""Signals reach a program even where Python drops the exception that their handler raises."""

import subprocess
import sys

import pytest

from wineexp.core.paths import ROOT

DROPPED = """
import os, signal, sys, time, weakref
from wineexp.core.signals import stop

class Thing: pass

def when_gone(_):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.1)

signal.signal(signal.{name}, stop)
thing = Thing()
reference = weakref.ref(thing, when_gone)
del thing
print("dropped", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize(("name", "last_line"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "")])
def test_an_exception_that_python_drops_is_raised_again(name: str, last_line: str) -> None:
    code = DROPPED.format(name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "dropped\n"
    assert done.returncode != 0
    assert last_line in done.stderr.splitlines()[-1]
