"""Training anew: answered rows whose truth became known are pinned, added to the training data, and trained on.

Each step can be repeated: a snapshot is named after its bytes, a model that was trained from the same config, code and
data is used again, and what was refused before is not tried again. So a process may be killed at any place, or started
twice.
"""

import csv
import hashlib
import io
import logging
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from wineexp.core import paths
from wineexp.core.config import GROUPS, flatten_config
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data import pin, pinned_file
from wineexp.data.schema import snake_case
from wineexp.data.target import Target
from wineexp.data.task import labels_from_table
from wineexp.monitoring import prediction_log
from wineexp.monitoring.format import INPUT, REQUEST_ID, ROW, TRUTH, truth_text
from wineexp.tracking.history import History
from wineexp.tracking.names import DATA_MD5, SOURCE_RUN_ID
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Version
from wineexp.tracking.runs import Runs
from wineexp.workflows.champion import feedback
from wineexp.workflows.experiment import assemble
from wineexp.workflows.promotion import Promotion

log = logging.getLogger(__name__)

# Where snapshots and their pins are, from the project's root.
FOLDER = Path("data/feedback")

# Columns of a snapshot that name the request and the row of each line; no data set reads them.
KEY_COLUMNS = ("log.request_id", "log.row")


def retrain(
    promotion: Promotion,
    champion: Version,
    source: RecordedRun,
    address: str,
    *,
    min_rows: int,
    since: str | None = None,
    until: str | None = None,
    tune: Callable[[RecordedRun, str], RecordedRun] | None = None,
) -> tuple[Version | None, str, Path | None]:
    """Train the champion's config anew with the labelled rows that are new, and put it through the gate.

    Parameters
    ----------
    promotion : Promotion
        Which compares with the champion's alias.
    champion : Version
    source : RecordedRun
        The run that the champion was promoted with.
    address : str
        Of the log.
    min_rows : int
        With fewer new rows nothing is trained.
    since, until : str, optional
        Rows answered from this time on, and before this time.
    tune : callable, optional
        Gives the best run of a sweep, from the champion's run and the pin of the snapshot; see `tune`.

    Returns
    -------
    Version or None, str, Path or None
        The challenger; why nothing was promoted; the pin of the snapshot.

    Raises
    ------
    UserError
        There is no such log; it lacks inputs; or the data set needs columns that no log has.
    """
    cfg = source.config()
    target: Target = build(OmegaConf.masked_copy(cfg, ["target"]))["target"]
    known = feedback(cfg)
    table = source.predictions()
    classes = [] if table is None else labels_from_table(table)
    check_data(cfg)
    task = assemble(cfg).task
    if task.dates:
        raise UserError(*(f"{name} is a date, which a log holds as a number of days" for name in task.dates))
    lines = list(
        new_rows(
            prediction_log.read_with_truth(address, since=since, until=until, model=champion.name),
            features=[str(name) for name in task.X],
            known=set().union(*(keys(Path(file)) for file in known)),
            target=target,
            classes=classes,
            columns=cfg.data.get("columns") or {},
        )
    )
    if len(lines) < min_rows:
        return None, f"{len(lines)} new rows have a label, and min_rows={min_rows} are wanted", None
    snapshot = write(champion.name, lines, cfg.data)
    cfg.data.feedback = [*known, pin.display_path(snapshot)]
    log.info("%d new rows with a label are pinned in %s.", len(lines), pin.display_path(snapshot))
    if tune is None and (refusal := earlier_refusal(promotion, cfg)) is not None:
        return None, f"this was tried before on the same rows, and refused: {refusal}", snapshot
    try:
        if tune is not None:
            source = tune(source, pin.display_path(snapshot))
            cfg = source.config()
        return promotion.attempt_config(source, cfg, is_trained_anew=True), "", snapshot
    except UserError as error:
        return None, "; ".join(error.faults), snapshot


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


def check_data(cfg: DictConfig) -> None:
    """Check that rows of a log can be rows of the champion's data set.

    Raises
    ------
    UserError
        The data set has a role that no log has, or is no table.
    """
    if cfg.data["_target_"] != "wineexp.data.table":
        raise UserError(
            f"data._target_={cfg.data['_target_']}: rows can only be added to a data set of wineexp.data.table"
        )
    roles = [key for key in ("group", "time", "fold", "weight", "file_column") if cfg.data.get(key) is not None]
    if roles:
        raise UserError(
            *(
                f"data.{key}={cfg.data[key]}: the log does not say this of its rows, so that they cannot be added"
                for key in roles
            )
        )


def new_rows(
    frames: Iterable[pd.DataFrame],
    *,
    features: Sequence[str],
    known: set[tuple[str, int]],
    target: Target,
    classes: Sequence[str],
    columns: Mapping[str, Any],
) -> list[dict[str, str]]:
    """The lines of a snapshot: each labelled row of the log once, without those that are known or break a rule.

    Parameters
    ----------
    frames : iterable of DataFrame
        Of `prediction_log.read_with_truth`.
    features : sequence of str
    known : set of (str, int)
        Request ids and rows of earlier snapshots.
    target : Target
    classes : sequence of str
        Of the champion; empty where it predicts numbers.
    columns : mapping
        What the data set's YAML says of its columns.

    Raises
    ------
    UserError
        The log lacks features.
    """
    found: dict[tuple[str, int], dict[str, str]] = {}
    n_left_out = 0
    values = {label: truth_text(value) for label, value in zip(classes, column_values(target, classes), strict=True)}
    rules = {snake_case(name): said for name, said in columns.items() if isinstance(said, Mapping)}
    for frame in frames:
        if missing := [name for name in features if f"{INPUT}{name}" not in frame]:
            raise UserError(
                f"the log has no values of {', '.join(missing)}, which the model learns from: serve.log_without leaves "
                "them out, or another version was logged"
            )
        inputs = frame[[f"{INPUT}{name}" for name in features]].to_numpy(dtype=object)
        for request_id, row, truth, given in zip(frame[REQUEST_ID], frame[ROW], frame[TRUTH], inputs, strict=True):
            key = (str(request_id), int(row))
            if key in known or key in found:
                continue
            label = values.get(str(truth)) if classes else number_text(truth)
            texts = {name: cell_text(value) for name, value in zip(features, given, strict=True)}
            if label is None or any(breaks_rule(rules.get(name, {}), texts[name]) for name in features):
                n_left_out += 1
                continue
            found[key] = dict(zip(KEY_COLUMNS, (key[0], str(key[1])), strict=True)) | texts | {target.column: label}
    if n_left_out:
        log.info(
            "%d labelled rows are left out: another class than the champion's, or a value that the data set forbids",
            n_left_out,
        )
    return list(found.values())


def column_values(target: Target, classes: Sequence[str]) -> list[str | float]:
    """A value of the target's column for each class: of a bin of numbers, its edge."""
    if target.bins is None or target.labels is None:
        return list(classes)
    edges = [*target.bins, target.bins[-1] + 1]
    return [edges[target.labels.index(name)] for name in classes]


def cell_text(value: Any) -> str:
    """A value as it is written in a CSV file: to the bit, and empty where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return ""
    return truth_text(value)


def number_text(value: Any) -> str | None:
    """A true number as text; None where it is none."""
    number = pd.to_numeric(value, errors="coerce")
    return truth_text(float(number)) if np.isfinite(number) else None


def breaks_rule(said: Mapping[str, Any], text: str) -> bool:
    """Whether a value is out of the range, or none of the levels, that the data set's YAML says of its column."""
    if not text:
        return False
    if (bounds := said.get("range")) is not None:
        low, high = bounds
        return not ((low is None or low <= float(text)) and (high is None or float(text) <= high))
    return said.get("levels") is not None and text not in set(map(truth_text, said["levels"]))


def keys(file: Path) -> set[tuple[str, int]]:
    """Request ids and rows of the lines of a snapshot."""
    content = pinned_file.load(pin.read(file)).decode()
    # The separator is that of the data set.
    head = content.partition("\n")[0]
    lines = csv.DictReader(io.StringIO(content), delimiter=head[len(KEY_COLUMNS[0])])
    return {(line[KEY_COLUMNS[0]], int(line[KEY_COLUMNS[1]])) for line in lines}


def write(name: str, lines: Sequence[Mapping[str, str]], data: Mapping[str, Any]) -> Path:
    """Write and pin a snapshot, whose name has its md5: the same lines are the same file. Gives the pin's path."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), delimiter=data.get("separator") or ",", lineterminator="\n")
    writer.writeheader()
    decimal = data.get("decimal") or "."
    writer.writerows(
        line if decimal == "." else {key: text.replace(".", decimal) for key, text in line.items()} for line in lines
    )
    content = out.getvalue().encode(data.get("encoding") or "utf-8")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = paths.ROOT / FOLDER / f"{name}-{md5[:12]}.csv"
    pinned = path.with_name(f"{path.name}.dvc")
    pinned_file.write(path, content)
    if not is_pin_of(pinned, md5):
        # A process that was killed may have left a part of it.
        pinned.unlink(missing_ok=True)
        pin.write(path, None)
    pin.store_in_cache([pin.read(pinned)])
    return pinned


def is_pin_of(pinned: Path, md5: str) -> bool:
    """Whether there is a whole pin of the bytes with this md5."""
    try:
        return pin.read(pinned).md5 == md5
    except UserError:
        return False


def earlier_refusal(promotion: Promotion, cfg: DictConfig) -> str | None:
    """Why the same rows were refused before, while the champion was the same; None where they were not."""
    wanted = "+".join(each.md5 for each in build(OmegaConf.masked_copy(cfg, ["data"]))["data"]().pins)
    against, challenger = promotion.cfg.against, promotion.cfg.alias
    for decision in reversed(History(promotion.registry).decisions()):
        if against in decision.moves:
            return None
        if decision.kind == "refused" and decision.alias == challenger:
            tags = promotion.registry.client.get_run(decision.run_id).data.tags
            if tags.get(DATA_MD5) == wanted:
                return "; ".join(decision.why)
    return None
