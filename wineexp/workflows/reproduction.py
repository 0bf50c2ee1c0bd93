"""A reproduction: a recorded run, trained again as it was, and certified figure by figure."""

from itertools import islice

from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.data import pin
from wineexp.tracking import provenance
from wineexp.tracking.runs import Record
from wineexp.workflows import certificate, console, record
from wineexp.workflows.certificate import Certificate, Line, Side
from wineexp.workflows.experiment import Experiment, assemble

# Kinds of metrics that are compared, by how their names begin; times end in SECONDS and are not.
FOLD, HOLDOUT = "fold/", "holdout/"
SCORES = (FOLD, "cv/", HOLDOUT)
SECONDS = "_seconds"


def facts(run: Record) -> tuple[list[Line], list[Line]]:
    """Where the run came from beside what is here: binding facts, and the machine's."""
    md5s = []
    for name in run.tags.get("data.dvc", "").split("+"):
        try:
            md5s.append(pin.read(name).md5)
        except UserError:
            md5s.append(f"(no pin {name})")
    return certificate.facts(run.tags, provenance.provenance_tags() | {"data.md5": "+".join(md5s)})


def certify(run: Record, recorded: DictConfig, store: str) -> Certificate:
    """Train as recorded and compare.

    Parameters
    ----------
    run : Record
    recorded : DictConfig
        Its config; `n_jobs` may be another one.
    store : str
        URI of the store that it is in.

    Raises
    ------
    UserError
        The run has no score, lost its answers, or its config cannot be brought to life here.
    """
    before = kept(run)
    n_scored = max((len(values) for name, values in before.scores.items() if name.startswith(FOLD)), default=0)
    if not n_scored:
        raise UserError(f"run {run.id} ({run.name}, {run.status}) recorded no fold: there is nothing to compare")
    experiment = assemble(recorded)
    n_folds = len(experiment.task.folds)
    notes = []
    if before.answers is None:
        notes.append("The run recorded no answers row by row, as a sweep's trial: its scores alone are compared.")
    if before.answers is None and n_scored < n_folds:
        notes.append(f"It ended after {n_scored} of {n_folds} folds: no others are compared.")
    now = trained(
        experiment,
        n_folds if before.answers is not None else n_scored,
        predict_holdout=any(name.startswith(HOLDOUT) for name in before.scores),
    )
    if more := sorted(set(now.scores) - set(before.scores)):
        notes.append(f"Not recorded, and so not compared: {', '.join(more)}.")
    figures, differing, compared = certificate.compare(before, now, n_folds=n_folds)
    binding, machine = facts(run)
    return Certificate(
        run=run.id,
        name=run.name,
        store=store,
        facts=binding,
        machine=machine,
        figures=figures,
        compared=compared,
        differing=len(differing),
        first=differing[0] if differing else None,
        notes=notes,
    )


def kept(run: Record) -> Side:
    """What the record has of the first training.

    Raises
    ------
    UserError
        The answers were deleted, or cannot be read.
    """
    answers = run.predictions()
    if answers is None and run.model_id is not None:
        raise UserError(
            f"run {run.id} ({run.name}) stored a model, and so its answers, but predictions.parquet is not there any "
            "more: it was deleted, and the answers cannot be compared"
        )
    names = [name for name in run.metrics if name.startswith(SCORES) and not name.endswith(SECONDS)]
    folds = {name: run.fold_scores(name.removeprefix(FOLD)).tolist() for name in names if name.startswith(FOLD)}
    return Side({name: [run.metrics[name]] for name in names} | folds, answers, run.tags.get("split.sha256"))


def trained(experiment: Experiment, n_folds: int, *, predict_holdout: bool) -> Side:
    """What the experiment gives now, on its first folds."""
    task = experiment.task
    scored = islice(experiment.cross_validate(), n_folds)
    folds = list(console.show_progress(scored, total=n_folds, metric=task.target.metric, quiet=False))
    holdout = task.predict_holdout(experiment.fit()) if predict_holdout else None
    figures = record.fold_metrics(folds) | {
        f"{HOLDOUT}{name}": value for name, value in task.score_holdout(holdout).items()
    }
    return Side(
        {
            name: list(value) if isinstance(value, list) else [value]
            for name, value in figures.items()
            if not name.endswith(SECONDS)
        },
        task.predictions_table(folds, holdout),
        task.tags()["split.sha256"],
    )
