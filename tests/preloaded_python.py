"""A `python` whose `-m wineexp...`, `-m mlflow` and scripts run in processes that have imported the libraries.

It is a program in a folder that comes first on the PATH of shells and of DVC, and what `sys.executable` names in tests.
It hands its command, its environment and its open files to the process of the tests, which forks a process for it (see
tests/preloaded.py), waits, passes signals on, and ends as that process does. All other commands get a new Python. So
do servers, which choose what they import; the refresh process of a server is such a forked process again.
"""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType

PYTHON = sys.executable

# Of the kernel's, those that a forked process takes over: the network and the name of the host.
NAMESPACES = ("net", "uts")

# As many open files as can be passed over a socket at once.
MAX_FILES = 250

SCRIPT = """#!/bin/sh
case "$1 $2" in
    '-m wineexp.serve')
        shift 2
        start="import runpy, sys; sys.executable = '$0'; runpy.run_module('wineexp.serve', None, '__main__', True)"
        exec '{python}' -c "$start" "$@"
        ;;
    '-m wineexp.'* | '-m mlflow' | '-m uvicorn' | '-m joblib.'*.popen_loky_posix | [!-]*.py\\ *)
        exec '{python}' -I -S '{client}' '{socket}' "$@"
        ;;
esac
exec '{python}' "$@"
"""


@functools.cache
def folder() -> Path:
    """The folder with that program, made once; a thread of this process takes the commands."""
    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(made / "socket"))
    listener.listen(16)
    program = made / "bin/python"
    program.parent.mkdir()
    program.write_text(SCRIPT.format(python=PYTHON, client=__file__, socket=made / "socket"))
    program.chmod(0o755)
    threading.Thread(target=_listen, args=(listener,), daemon=True).start()
    return program.parent


def command(*arguments: str) -> list[str]:
    """The command that runs `python <arguments>` in such a process, whatever it is; its namespaces are the caller's."""
    return [PYTHON, "-I", "-S", __file__, str(folder().parent / "socket"), *arguments]


def _listen(listener: socket.socket) -> None:
    with listener:
        while True:
            threading.Thread(target=_run, args=(listener.accept()[0],), daemon=True).start()


def _run(connection: socket.socket) -> None:
    from tests.conftest import start_fork_server
    from tests.preloaded import Process

    with connection, connection.makefile() as stream:
        message, received, _, _ = socket.recv_fds(connection, 1, MAX_FILES)
        with ExitStack() as files:
            for descriptor in received:
                files.callback(os.close, descriptor)
            message += stream.readline().encode()
            if not message.endswith(b"\n"):
                # The program was killed before it had asked.
                return
            asked = json.loads(message)
            start_fork_server()
            process = Process(
                asked["command"],
                Path(asked["folder"]),
                asked["environment"],
                descriptors=dict(zip(asked["numbers"], received, strict=True)),
                executable=str(folder() / "python"),
                umask=asked["umask"],
                beside=None if asked["namespaces"] == _namespaces() else asked["pid"],
            )
        # The connection is readable where the program is gone: it was killed, or the shell that had started it.
        with suppress(BrokenPipeError):
            connection.sendall(f"{process.pid}\n".encode())
        wait([process.process.sentinel, connection])
        with suppress(subprocess.TimeoutExpired, BrokenPipeError):
            connection.sendall(f"{process.wait(0).returncode}\n".encode())


def _namespaces() -> list[str]:
    """Which ones this process is in."""
    return [str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES]


def main(address: str, *command: str) -> None:
    """Have a command run, with the open files of this process."""
    numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    asked = {"command": command, "folder": str(Path.cwd()), "environment": dict(os.environ), "numbers": numbers}
    asked |= {"umask": os.umask(0o077), "pid": os.getpid(), "namespaces": _namespaces()}
    with connection, connection.makefile("rw") as stream:
        message = f"{json.dumps(asked)}\n".encode()
        # All of it, since what is sent with descriptors may be sent in part.
        sent = socket.send_fds(connection, [message], numbers)
        connection.sendall(message[sent:])
        for number in numbers:
            if number != 2:
                os.close(number)
        pid = int(stream.readline())

        def pass_on(number: int, _: FrameType | None) -> None:
            os.kill(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, pass_on)
        code = int(stream.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
