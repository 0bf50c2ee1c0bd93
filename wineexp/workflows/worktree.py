"""A throw-away copy of the project as it was at a commit: code, data that are here, and the libraries of its lock."""

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
from wineexp.data import pin
from wineexp.tracking import provenance

# Seconds that a process has to end by itself once it was asked to.
GRACE = 10

log = logging.getLogger(__name__)


@contextmanager
def checkout(commit: str, diff: bytes) -> Iterator[Path]:
    """The root of a worktree with a commit's code, changed by a diff; it is gone afterwards, whatever happens.

    Parameters
    ----------
    commit : str
        In hexadecimal digits.
    diff : bytes
        As `provenance.diff` gave it; may be empty.

    Raises
    ------
    UserError
        The project is no git checkout, the commit is not in it, or the diff does not apply.
    """
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise UserError(f"git.commit={commit}: not a commit's name, 40 hexadecimal digits")
    if _git(ROOT, "rev-parse", "--git-dir").returncode:
        raise UserError(f"{ROOT} is no git checkout, so that no other commit can be had there; clone the project")
    if _git(ROOT, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(
            f"commit {commit}, at which the run was recorded, is not in this clone; fetch it from where it was made, "
            "git fetch REMOTE, and run again"
        )
    with tempfile.TemporaryDirectory(prefix="wineexp-", ignore_cleanup_errors=True) as scratch:
        tree = Path(scratch) / f"wineexp-{commit[:12]}"
        try:
            _grow(tree, commit, diff)
            yield tree
        finally:
            with uninterrupted():
                shutil.rmtree(tree, ignore_errors=True)
                # Git then forgets this one, locked or not; `prune` would forget other ones whose disk is away.
                _git(ROOT, "worktree", "remove", "--force", "--force", str(tree))


def _grow(tree: Path, commit: str, diff: bytes) -> None:
    with uninterrupted():
        # No hooks: what they do to a fresh worktree is no part of the recorded code.
        added = _git(ROOT, "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", str(tree), commit)
    if added.returncode:
        raise UserError(f"git could not make a worktree of {commit}: {_last(added)}")
    if diff:
        applied = _git(tree, "apply", "--whitespace=nowarn", "-", stdin=diff)
        if applied.returncode:
            raise UserError(f"the recorded git.diff does not apply to commit {commit}: {_last(applied)}")
    _bring_data(tree)


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607  git is found on the user's PATH
            cwd=folder,
            input=stdin,
            capture_output=True,
            check=False,
            # A terminal's Ctrl-C is for this process to answer.
            process_group=0,
        )
    except OSError as error:
        raise UserError(f"git cannot be started: {error.strerror}") from error


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"])[-1]


def _bring_data(tree: Path) -> None:
    """Copy the data files that lie here and that the worktree's own pins ask for."""
    for dvc_file in sorted((tree / "data").rglob("*.dvc")):
        pinned = pin.read(dvc_file)
        if not pinned.path.resolve().is_relative_to(tree.resolve()):
            continue
        here = ROOT / pinned.path.relative_to(tree)
        if here.is_file() and hashlib.md5(here.read_bytes(), usedforsecurity=False).hexdigest() == pinned.md5:
            shutil.copyfile(here, pinned.path)


def interpreter(tree: Path, tags: Mapping[str, str], *, strict: bool) -> str:
    """The Python to run a worktree with: this one where it is what the run was recorded with, else a fresh one.

    Parameters
    ----------
    tree : Path
        As `checkout` gave it; the virtual environment is made beside it, and goes with it.
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
    if all(here.get(name) == tags.get(name) for name in ("lock.sha256", "python.version", "libraries")):
        return sys.executable
    wanted = tags.get("python.version", "")
    base = _python(wanted)
    if base is None and strict:
        raise UserError(
            f"the run was recorded with Python {wanted}, this is {platform.python_version()}, and no other one is on "
            "PATH; install it, or say strict=false to do with this one"
        )
    venv = tree.parent / "venv"
    log.info("Installing the recorded %s into a fresh environment; this takes minutes.", provenance.LOCK_FILE)
    _installed([base or sys.executable, "-m", "venv", str(venv)], tree)
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _installed([*pip, "install", "--progress-bar=off", "-r", provenance.LOCK_FILE], tree)
    return str(venv / "bin/python")


def _python(version: str) -> str | None:
    """An interpreter of exactly this version; None where there is none on PATH."""
    if version == platform.python_version():
        return sys.executable
    for name in (f"python{version.rpartition('.')[0]}", "python3"):
        if found := shutil.which(name):
            asked = [found, "-c", "import platform; print(platform.python_version())"]
            told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
            if told == version:
                return found
    return None


def _installed(command: Sequence[str], folder: Path) -> None:
    """Run one step of an installation, showing its latest line in a terminal."""
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


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command to its end with this process's own output; gives its exit code.

    Whatever interrupts this process ends that one first.
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
    """A process in a group of its own, which is not there any more afterwards."""
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
    """Ask a process group to end, then make it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
