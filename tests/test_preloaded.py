"""A command that is run in a preloaded process does what it does in a Python of its own."""

import json
import re
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests import preloaded_python
from tests.conftest import environment, run, run_preloaded
from tests.libraries import LIBRARIES

FIT_SECONDS = re.compile(r"fitted in [\d.]+ s")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "model.max_dept=3"],
        pytest.param(
            ["train", "model=majority", "tracking=off", "hydra.run.dir=out"], marks=pytest.mark.journey, id="train"
        ),
    ],
)
def test_output_and_exit_code_are_those_of_a_fresh_process(arguments: list[str], tmp_path: Path) -> None:
    results = {}
    for afresh in (False, True):
        folder = tmp_path / str(afresh)
        folder.mkdir()
        done = run(folder, *arguments, afresh=afresh)
        streams = [FIT_SECONDS.sub("", text.replace(str(folder), "")) for text in (done.stdout, done.stderr)]
        results[afresh] = (done.returncode, *streams)
    assert results[False] == results[True]
    assert results[False][1] + results[False][2]


def test_a_script_finds_the_libraries_imported_and_its_own_environment_arguments_and_folder(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps([list(sys.modules), dict(os.environ), sys.argv, sys.path[0], os.getcwd()]))\n"
        "sys.exit(7)\n"
    )
    variables = environment(tmp_path)
    done = run_preloaded(["script.py", "x=1"], tmp_path, variables, timeout=60)
    assert done.returncode == 7
    modules, inherited, arguments, first_path, folder = json.loads(done.stdout)
    assert set(LIBRARIES) <= set(modules)
    assert {"tests.conftest", "wineexp"} & set(modules) == set()
    assert inherited == variables
    assert (arguments, first_path, folder) == (["script.py", "x=1"], str(tmp_path), str(tmp_path))


@pytest.mark.journey
def test_databases_are_closed_at_the_end(tmp_path: Path) -> None:
    assert "Recorded as run" in run(tmp_path, "train", "model=majority").stdout
    assert not (tmp_path / "mlflow.db-wal").exists()


@pytest.mark.journey
def test_a_command_that_takes_too_long_is_killed_and_the_next_one_is_run(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        run_preloaded(["script.py"], tmp_path, environment(tmp_path), timeout=2)
    pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert run(tmp_path, "train", "--cfg", "job").returncode == 0


def test_a_program_that_is_killed_before_it_has_asked_for_anything_is_let_go() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(preloaded_python.folder().parent / "socket"))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    # What a thread raises fails the test during which it is raised.
    deadline = time.monotonic() + 10
    while any("_run" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_in(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += [process.name] if (process / "cwd").resolve() == folder else []
    return found


def start_in_a_shell(command: str, folder: Path) -> "subprocess.Popen[str]":
    variables = environment(folder)
    variables["PATH"] = f"{preloaded_python.folder()}:{variables['PATH']}"
    return subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_shell_s_command_runs_in_a_preloaded_process(tmp_path: Path) -> None:
    shell = start_in_a_shell(
        "python -m wineexp.train model.max_dept=3 2>&1 >out; echo $?; python -c 'print(2)'", tmp_path
    )
    printed, errors = shell.communicate(timeout=60)
    assert printed.startswith("error: model.max_dept: no such key")
    assert printed.endswith("\n1\n2\n")
    assert errors == ""


@pytest.mark.parametrize(("kill", "code"), [("kill", "143"), pytest.param("kill -9", "137", marks=pytest.mark.journey)])
def test_a_signal_of_a_shell_reaches_its_command(kill: str, code: str, tmp_path: Path) -> None:
    fit = "python -m wineexp.train model=forest model.n_estimators=1000000 tracking=off"
    shell = start_in_a_shell(f"{fit} >out & sleep 3; {kill} $!; wait $!; echo $?", tmp_path)
    assert shell.communicate(timeout=60)[0] == f"{code}\n"
    assert processes_in(tmp_path) == []
