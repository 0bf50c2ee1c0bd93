"""Where a run comes from: the code, the lock file, the libraries, the machine."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wineexp
from wineexp.core.addresses import without_credentials
from wineexp.core.paths import PACKAGE, ROOT
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.tracking import names

LOCK_FILE = "requirements.txt"

# Libraries that can change a figure; an optional one can where a model of its own is chosen.
LIBRARIES = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops", "skrub", "xgboost")
OPTIONAL_LIBRARIES = ("catboost", "lightgbm")

# Options under which a diff is the same text whatever the user's own settings of git are: a digest is made of it.
DIFF_OPTIONS = (
    *("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--unified=3", "--src-prefix=a/", "--dst-prefix=b/"),
)

# What can change a figure, as git's pathspecs: code, configs, pins and locks, whether git tracks them or not. Other
# files may be secret, and are left out. DVC's lock is made by a run and read by none. Pins of feedback, which `retrain`
# makes, are named after their md5, which the run records: they cannot change.
RESULT_FILES = (
    *("conf", "hydra_plugins", "wineexp", ":(glob)**/*.dvc", ":(exclude)data/feedback"),
    *("pyproject.toml", ":(glob)requirements*.txt", "uv.lock", "poetry.lock"),
)


@lru_cache(maxsize=8)
def provenance_tags(modules: tuple[Path, ...] = ()) -> dict[str, str]:
    """Tags of a run that say on what it was made.

    Parameters
    ----------
    modules : tuple of Path
        Files of the user's own modules, whose changes make the tree dirty wherever they are in it.

    Returns
    -------
    dict of str to str
        `git.commit`, `git.dirty` and, of a changed tree, `git.diff.sha256`; where the project is no git checkout
        `code.sha256` in their place; `lock.sha256`, where there is a lock file; `wineexp.version`; `python.version`;
        `libraries`, as JSON; `machine.platform`, `machine.processor`, `machine.cores`; `threads`, of one fit. They are
        looked up once per process, since its code does not change while it runs.
    """
    lock = ROOT / LOCK_FILE
    # A project beside an installed wineexp may have no lock file.
    lock_tags = {names.LOCK_SHA256: hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}
    return (
        (git_tags(modules) or {names.CODE_SHA256: _code_digest()})
        | lock_tags
        | {
            names.WINEEXP_VERSION: wineexp.__version__,
            names.PYTHON_VERSION: platform.python_version(),
            names.LIBRARIES: json.dumps(_library_versions()),
            names.MACHINE_PLATFORM: platform.platform(),
            names.MACHINE_PROCESSOR: _processor(),
            names.MACHINE_CORES: str(os.cpu_count()),
            names.THREADS: str(NATIVE_THREADS),
        }
    )


def git_tags(modules: Iterable[Path] = ()) -> dict[str, str]:
    """The tags about git alone; empty where the project is no git checkout."""
    try:
        commit, changes = _git("rev-parse", "HEAD").strip(), diff()
        own = [f":(literal){path.relative_to(ROOT)}" for path in modules if path.is_relative_to(ROOT)]
        is_dirty = bool(changes or (own and _git("status", "--porcelain", "--", *own).strip()))
    except (OSError, subprocess.CalledProcessError):
        return {}
    tags = {names.GIT_COMMIT: commit, names.GIT_DIRTY: str(is_dirty).lower()}
    if changes:
        tags[names.GIT_DIFF_SHA256] = hashlib.sha256(changes.encode(errors="surrogateescape")).hexdigest()
    return tags


def diff() -> str:
    """The text with which `git apply` makes `RESULT_FILES` from those of the commit; empty where none of them differs.

    A run stores copies of the user's own modules instead, which may lie anywhere. Addresses in it are without their
    credentials, so that git can apply it only where an unchanged line holds none.
    """
    untracked = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *RESULT_FILES).split("\0")
    # Comparing two files without an index, git exits with 1 where they differ.
    added = [
        _git(*DIFF_OPTIONS, "--no-index", "--", os.devnull, name, allowed_codes=(0, 1)) for name in untracked if name
    ]
    return without_credentials("".join([_git(*DIFF_OPTIONS, "HEAD", "--", *RESULT_FILES), *added]))


def _git(*arguments: str, allowed_codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607  git is found on the user's PATH
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode not in allowed_codes:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    # `text=True` would turn the line ends within a diff into this system's own.
    return done.stdout.decode(errors="surrogateescape")


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """SHA-256 over wineexp's own modules, their places and their bytes."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _library_versions() -> dict[str, str]:
    versions = {}
    for name in (*LIBRARIES, *OPTIONAL_LIBRARIES):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # The image that only serves is without some of them, too.
            continue
    return versions


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor's model, where the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
