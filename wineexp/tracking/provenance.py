"""Where a run comes from: the code, the lock file, the libraries, the machine."""

import hashlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wineexp.core.paths import ROOT
from wineexp.evaluation.cross_validation import NATIVE_THREADS

LOCK = "requirements.txt"

# Libraries that have a say in a figure; those that are optional have one where a model of theirs is chosen.
LIBRARIES = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops", "skrub", "xgboost")
OPTIONAL = ("catboost", "lightgbm")

# The same words whatever the user's own settings of git, and however many objects a clone holds: a diff has a digest.
DIFF = (
    *("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--unified=3", "--src-prefix=a/", "--dst-prefix=b/"),
)

# Folders whose untracked files can change a figure. Others are left out of a diff: what lies about may be secret.
CODE = ("conf", "hydra_plugins", "wineexp")


@lru_cache(maxsize=1)
def facts() -> dict[str, str]:
    """Tags that say on what a run was made.

    `git.commit`, `git.dirty` and, of a changed tree, `git.diff.sha256`, none of them where the project is no git
    checkout; `lock.sha256`, where there is a lock; `python.version`; `libraries`, as JSON; `machine.platform`,
    `machine.processor`, `machine.cores`; `threads`, of one fit. Looked up once a process, whose
    code does not change under way.
    """
    lock = ROOT / LOCK
    # A project of one's own beside an installed wineexp may have none.
    locked = {"lock.sha256": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}
    return (
        code()
        | locked
        | {
            "python.version": platform.python_version(),
            "libraries": json.dumps(_libraries()),
            "machine.platform": platform.platform(),
            "machine.processor": _processor(),
            "machine.cores": str(os.cpu_count()),
            "threads": str(NATIVE_THREADS),
        }
    )


def code() -> dict[str, str]:
    """The tags on git alone."""
    try:
        tags = {
            "git.commit": _git("rev-parse", "HEAD").strip(),
            "git.dirty": str(bool(_git("status", "--porcelain").strip())).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
    if tags["git.dirty"] == "true":
        tags["git.diff.sha256"] = hashlib.sha256(diff().encode(errors="surrogateescape")).hexdigest()
    return tags


def diff() -> str:
    """What `git apply` needs to make this tree from its commit; empty where nothing that is code was changed.

    Of untracked files, those in `CODE`.
    """
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE).split("\0")
    added = [_git(*DIFF, "--no-index", "--", os.devnull, name, fine=(0, 1)) for name in new if name]
    return "".join([_git(*DIFF, "HEAD"), *added])


def _git(*arguments: str, fine: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607  git is found on the user's PATH
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode not in fine:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    # Not by `text=True`, which would turn a changed file's line ends into its own.
    return done.stdout.decode(errors="surrogateescape")


@lru_cache(maxsize=1)
def _libraries() -> dict[str, str]:
    found = {}
    for name in (*LIBRARIES, *OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # The lean image that serves has no need of all of them either.
            continue
    return found


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor's model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
