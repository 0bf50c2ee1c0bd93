"""A temporary copy of the project as it was at a commit: its code, the data that are here, and its libraries."""

import hashlib
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.core.signals import uninterrupted
from wineexp.data import pin, pinned_file
from wineexp.tracking import names, provenance

# How long a process has to end by itself after SIGTERM.
GRACE_SECONDS = 10

log = logging.getLogger(__name__)


@contextmanager
def checkout(commit: str, diff: bytes) -> Iterator[Path]:
    """The root of a worktree with a commit's code and a diff applied; it is removed at the end of the block.

    Parameters
    ----------
    commit : str
        In hexadecimal digits.
    diff : bytes
        From `provenance.diff`; may be empty.

    Raises
    ------
    UserError
        The project is no git checkout, the commit is not in it, or the diff does not apply.
    """
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise UserError(f"git.commit={commit}: not a commit's name, 40 hexadecimal digits")
    if _git(ROOT, "rev-parse", "--git-dir").returncode:
        raise UserError(f"{ROOT} is no git checkout, so that it has no other commits; clone the project")
    if _git(ROOT, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(
            f"commit {commit}, at which the run was recorded, is not in this clone; fetch it from where it was made "
            "with git fetch REMOTE, and run again"
        )
    with tempfile.TemporaryDirectory(prefix="wineexp-", ignore_cleanup_errors=True) as scratch:
        tree = Path(scratch) / f"wineexp-{commit[:12]}"
        try:
            _populate(tree, commit, diff)
            yield tree
        finally:
            with uninterrupted():
                shutil.rmtree(tree, ignore_errors=True)
                # Git forgets this worktree, locked or not; `prune` would forget others whose disk is not mounted, too.
                _git(ROOT, "worktree", "remove", "--force", "--force", str(tree))


def _populate(tree: Path, commit: str, diff: bytes) -> None:
    with uninterrupted():
        # Without hooks: what they do to a new worktree is not part of the recorded code.
        added = _git(ROOT, "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", str(tree), commit)
    if added.returncode:
        raise UserError(f"git could not make a worktree of {commit}: {_last_line(added)}")
    if diff:
        applied = _git(tree, "apply", "--whitespace=nowarn", "-", stdin=diff)
        if applied.returncode:
            raise UserError(f"the recorded git.diff does not apply to commit {commit}: {_last_line(applied)}")
    _bring_data(tree)


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607  git is found on the user's PATH
            cwd=folder,
            input=stdin,
            capture_output=True,
            check=False,
            # Ctrl-C in a terminal then reaches this process alone, which handles it.
            process_group=0,
        )
    except OSError as error:
        raise UserError(f"git cannot be started: {error.strerror}") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["git gives no reason"])[-1]


def _bring_data(tree: Path) -> None:
    """Copy the data files of this project that match the worktree's own pins."""
    # A folder may have such a name, too: that of DVC's own settings.
    for dvc_file in sorted(path for path in tree.rglob("*.dvc") if path.is_file()):
        pinned = pin.read(dvc_file)
        if not pinned.path.resolve().is_relative_to(tree.resolve()):
            continue
        here = ROOT / pinned.path.relative_to(tree)
        if here.is_file() and hashlib.md5(here.read_bytes(), usedforsecurity=False).hexdigest() == pinned.md5:
            shutil.copyfile(here, pinned.path)


def bring_feedback(tree: Path, pins: Sequence[str]) -> None:
    """Copy pins of feedback and their files, which git does not track, from this project to a worktree.

    Parameters
    ----------
    tree : Path
        From `checkout`.
    pins : sequence of str
        Paths from the project's root, as `data.feedback` of a run's config has them.

    Raises
    ------
    UserError
        A pin is not here, or its file is neither here nor where DVC would fetch it from.
    """
    for name in pins:
        if Path(name).is_absolute():
            continue
        pinned = pin.read(name)
        pinned_file.load(pinned)
        for path in (pinned.dvc_file, pinned.path):
            there = tree / path.relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)


def find_interpreter(tree: Path, tags: Mapping[str, str], *, strict: bool) -> str:
    """The Python for a worktree: this one where it is the recorded one, else that of a new virtual environment.

    Parameters
    ----------
    tree : Path
        From `checkout`; the virtual environment is made beside it, and removed with it.
    tags : mapping of str to str
        The run's.
    strict : bool
        Whether it must have the recorded version of Python.

    Raises
    ------
    UserError
        That version is not on this machine, or the lock cannot be installed.
    """
    here = provenance.provenance_tags()
    if all(here.get(tag) == tags.get(tag) for tag in (names.LOCK_SHA256, names.PYTHON_VERSION, names.LIBRARIES)):
        return sys.executable
    recorded = tags.get(names.PYTHON_VERSION, "")
    base = _find_python(recorded)
    if base is None and strict:
        raise UserError(
            f"the run was recorded with Python {recorded}, this is {platform.python_version()}, and the recorded one "
            "is not on PATH; install it, or use this one with strict=false"
        )
    venv = tree.parent / "venv"
    log.info("Installing the recorded %s into a new environment; this takes minutes.", provenance.LOCK_FILE)
    _install([base or sys.executable, "-m", "venv", str(venv)], tree)
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _install([*pip, "install", "--progress-bar=off", "-r", provenance.LOCK_FILE], tree)
    return str(venv / "bin/python")


def _find_python(version: str) -> str | None:
    """An interpreter of exactly this version; None where PATH has none."""
    if version == platform.python_version():
        return sys.executable
    for name in (f"python{version.rpartition('.')[0]}", "python3"):
        if path := shutil.which(name):
            command = [path, "-c", "import platform; print(platform.python_version())"]
            if subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == version:
                return path
    return None


def _install(command: Sequence[str], folder: Path) -> None:
    """Run one step of an installation, and raise the last lines of its output where it fails."""
    tail: list[str] = []
    console = Console()
    with (
        console.status("installing"),
        _process(command, folder, os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        for line in process.stdout or ():
            tail = [*tail[-2:], line.decode(errors="replace").strip()]
    if process.returncode:
        raise UserError(f"the recorded {provenance.LOCK_FILE} cannot be installed: {' '.join(' '.join(tail).split())}")


def run_command(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command that writes to this process's output; gives its exit code.

    Where this process is interrupted, that one is ended first.
    """
    with _process(command, folder, environment) as process:
        process.wait()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


@contextmanager
def _process(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is ended at the end of the block."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        with uninterrupted():
            started.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    process_group=0,
                )
            )
        yield started[0]
        started[0].wait()
    finally:
        with uninterrupted():
            for process in started:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process group: with SIGTERM, and after `GRACE_SECONDS` with SIGKILL."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
