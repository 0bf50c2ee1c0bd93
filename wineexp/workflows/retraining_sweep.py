"""Tunes the champion's model anew, by a sweep over its data and what became known since."""

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wineexp.core import paths
from wineexp.core.config import GROUPS, flatten_config
from wineexp.core.errors import UserError
from wineexp.tracking.names import SOURCE_RUN_ID
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.runs import Runs
from wineexp.workflows.champion import feedback

log = logging.getLogger(__name__)


def tune(runs: Runs, source: RecordedRun, snapshot: str, *, uri: str, n_trials: int | None) -> RecordedRun:
    """Tune the champion's model on its data and a snapshot, by a sweep in a process of its own; its best run.

    The study is named after the snapshot: after a kill the same command goes on with it.

    Parameters
    ----------
    runs : Runs
    source : RecordedRun
        The run that the champion was promoted with.
    snapshot : str
        The snapshot's pin, from the project's root.
    uri : str
        Of the tracking store.
    n_trials : int or None
        None for the sweep's own number.

    Raises
    ------
    UserError
        The sweep failed.
    """
    original = runs.get(source.tags.get(SOURCE_RUN_ID, source.id))
    cfg = original.config()
    study = Path(snapshot).name.partition(".")[0]
    choices = [f"{group}={original.params[group]}" for group in GROUPS]
    keys = [*GROUPS, "seed", "holdout", "early_stopping"]
    shown = run_train(*choices, "--cfg", "job", "--resolve", stdout=subprocess.PIPE)
    if shown.returncode != 0:
        raise UserError(f"the champion's choices cannot be composed any more: {' '.join(choices)}")
    composed: Any = OmegaConf.create(shown.stdout)
    recorded, plain = (flatten_config(OmegaConf.masked_copy(each, keys)) for each in (cfg, composed))
    space = search_space(original.params["model"])
    changes = [
        f"{'' if key in plain else '++'}{key}={quoted(value)}"
        for key, value in recorded.items()
        if not key.startswith("data.feedback") and key not in space and plain.get(key, ...) != value
    ]
    files = ",".join(map(quoted, [*feedback(cfg), snapshot]))
    options = [f"++data.feedback=[{files}]", f"tracking.uri={quoted(uri)}", f"hydra.sweeper.study_name={study}"]
    options += [] if n_trials is None else [f"hydra.sweeper.n_trials={n_trials}"]
    log.info("tuning: python -m wineexp.train -m %s", shlex.join([*choices, *changes, *options]))
    if (code := run_train("-m", *choices, *changes, *options).returncode) != 0:
        raise UserError(f"the sweep {study} failed with exit code {code}: it says why above")
    return runs.get(study)


def run_train(*arguments: str, stdout: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `python -m wineexp.train` in a process of its own: Hydra, which runs this program, runs one at a time."""
    python_path = os.pathsep.join([str(paths.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": python_path}
    command = [sys.executable, "-m", "wineexp.train", *arguments]
    return subprocess.run(command, env=environment, stdout=stdout, text=True, check=False)


def search_space(model: str) -> set[str]:
    """The keys that the sweep of a model varies by itself."""
    for folder in (Path.cwd() / "conf", paths.CONF):
        if (file := folder / "search" / f"{model}.yaml").is_file():
            return set(map(str, OmegaConf.load(file)))
    return set()


def quoted(value: Any) -> str:
    """A value as Hydra's command line takes it."""
    if isinstance(value, str):
        return "'{}'".format(value.replace("\\", "\\\\").replace("'", "\\'"))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
