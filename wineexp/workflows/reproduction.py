"""A reproduction: a recorded run is trained again and compared value by value."""

from itertools import islice

from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.data import pin
from wineexp.evaluation import cross_validation
from wineexp.models.device import card_tags
from wineexp.tracking import modules, names, provenance
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.workflows import certificate, console, record
from wineexp.workflows.certificate import Certificate, Pair, TrainingResult
from wineexp.workflows.experiment import Experiment, assemble, device, worker_tags

# Beginnings of the names of metrics that are compared; those that end in SECONDS are times, and are not.
FOLD_PREFIX, HOLDOUT_PREFIX = "fold/", "holdout/"
SCORES = (FOLD_PREFIX, "cv/", HOLDOUT_PREFIX)
SECONDS = "_seconds"


def compare_origin(run: RecordedRun, cfg: DictConfig) -> tuple[list[Pair], list[Pair]]:
    """Compare where a run came from with what is here: what can change a score, and the machine.

    `cfg` says where it is trained now.
    """
    md5s = []
    for name in run.tags.get(names.DATA_DVC, "").split("+"):
        try:
            md5s.append(pin.read(name).md5)
        except UserError:
            md5s.append(f"(no pin {name})")
    now = provenance.provenance_tags() | modules.digests_here(run.tags) | {names.DATA_MD5: "+".join(md5s)}
    now |= card_tags(device(cfg)) | worker_tags(cfg)
    return certificate.compare_origins(run.tags, now)


def certify(run: RecordedRun, recorded_cfg: DictConfig, store: str) -> Certificate:
    """Train as recorded, and compare.

    Parameters
    ----------
    run : RecordedRun
    recorded_cfg : DictConfig
        Its config; only `n_jobs`, `device` and `data.scheduler` may be changed.
    store : str
        URI of the store that it is in.

    Raises
    ------
    UserError
        The run has no score, its predictions were deleted, or its config cannot be built here.
    """
    recorded = recorded_result(run)
    n_scored = max((len(values) for name, values in recorded.scores.items() if name.startswith(FOLD_PREFIX)), default=0)
    if not n_scored:
        raise UserError(f"run {run.id} ({run.name}, {run.status}) recorded no fold: there is nothing to compare")
    experiment = assemble(recorded_cfg)
    n_folds = len(experiment.task.folds)
    notes = []
    if recorded.predictions is None:
        notes.append("The run recorded no predictions, like every trial of a sweep: only its scores are compared.")
    if recorded.predictions is None and n_scored < n_folds:
        notes.append(f"It ended after {n_scored} of {n_folds} folds: no others are compared.")
    now = train_again(
        experiment,
        n_folds if recorded.predictions is not None else n_scored,
        with_intervals=any(name.endswith("interval_coverage") for name in recorded.scores),
        predict_holdout=any(name.startswith(HOLDOUT_PREFIX) for name in recorded.scores),
    )
    if more := sorted(set(now.scores) - set(recorded.scores)):
        notes.append(f"Not recorded, and so not compared: {', '.join(more)}.")
    values, differing, n_compared = certificate.compare_results(recorded, now, n_folds=n_folds)
    origin, machine = compare_origin(run, recorded_cfg)
    return Certificate(
        run=run.id,
        name=run.name,
        store=store,
        origin=origin,
        machine=machine,
        values=values,
        n_compared=n_compared,
        n_differing=len(differing),
        first_difference=differing[0] if differing else None,
        notes=notes,
    )


def recorded_result(run: RecordedRun) -> TrainingResult:
    """What the first training gave, as it was recorded.

    Raises
    ------
    UserError
        The predictions were deleted, or cannot be read.
    """
    predictions = run.predictions()
    if predictions is None and run.model_id is not None:
        raise UserError(
            f"run {run.id} ({run.name}) stored a model, and so its predictions, but {names.PREDICTIONS_FILE} is no "
            "longer there: it was deleted, and the predictions cannot be compared"
        )
    metrics = [name for name in run.metrics if name.startswith(SCORES) and not name.endswith(SECONDS)]
    fold_metrics = [name for name in metrics if name.startswith(FOLD_PREFIX)]
    folds = {name: run.fold_scores(name.removeprefix(FOLD_PREFIX)).tolist() for name in fold_metrics}
    scores = {name: [run.metrics[name]] for name in metrics} | folds
    return TrainingResult(scores, predictions, run.tags.get(names.SPLIT_SHA256))


def train_again(experiment: Experiment, n_folds: int, *, with_intervals: bool, predict_holdout: bool) -> TrainingResult:
    """What the experiment gives now, on its first folds; intervals only where such were recorded."""
    task = experiment.task
    first = islice(experiment.cross_validate(), n_folds)
    folds = list(console.show_progress(first, total=n_folds, metric=task.target.metric))
    if with_intervals:
        folds = cross_validation.with_intervals(folds)
    holdout = None
    if predict_holdout:
        holdout = experiment.predict_holdout(experiment.fit(), folds if with_intervals else [])
    metrics = record.fold_metrics(folds, task.target.metric) | {
        f"{HOLDOUT_PREFIX}{name}": value
        for name, value in task.score_holdout(holdout, folds if with_intervals else []).items()
    }
    scores = {
        name: list(value) if isinstance(value, list) else [value]
        for name, value in metrics.items()
        if not name.endswith(SECONDS)
    }
    return TrainingResult(scores, task.predictions_table(folds, holdout), task.tags()[names.SPLIT_SHA256])
