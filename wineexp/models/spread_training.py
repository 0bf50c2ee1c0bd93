"""XGBoost's training on the workers of a Dask cluster, each on its share of the rows."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
from distributed import get_worker
from distributed.comm import get_address_host
from xgboost import collective
from xgboost.callback import TrainingCallback
from xgboost.tracker import RabitTracker

from wineexp.core.dask_workers import DaskWorkers, is_cancelled
from wineexp.core.progress_lines import ProgressLines
from wineexp.models import _xgboost

# Dask's name for the events that tell how many rounds are done.
ROUNDS = "wineexp-rounds"


class StopTogether(TrainingCallback):
    """Ends a cancelled training on all workers after the same round, and logs each round as an event of Dask's."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Gives whether to end."""
        if collective.get_rank() == 0:
            get_worker().log_event(ROUNDS, epoch + 1)
        cancelled = np.array([is_cancelled()], dtype=np.int32)
        return bool(collective.allreduce(cancelled, collective.Op.MAX)[0])


def train(
    workers: DaskWorkers,
    model: Any,
    makes: Sequence[Callable[[], Iterator[_xgboost.Batch]]],
    n_classes: int | None,
    dtypes: pd.Series | None,
) -> Any:
    """As `_xgboost.train`, on as many workers as there are makers of batches: one for each share of the rows.

    Raises
    ------
    ValueError
        XGBoost refuses an argument or the data.
    UserError
        As of `DaskWorkers.run`.
    """

    def attempt() -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
        settings = workers.client.run_on_scheduler(_start_tracker, len(makes))
        shares = [(settings, number, model, make, n_classes, dtypes) for number, make in enumerate(makes)]
        return _train_share, shares

    n_rounds = model.get_num_boosting_rounds()
    lines = ProgressLines(f"boosting on {len(makes)} workers, {n_rounds:,} rounds", n_rounds)
    workers.client.subscribe_topic(ROUNDS, lambda event: lines.show(event[1]))
    return workers.run(attempt)[0]


def _start_tracker(n_workers: int, dask_scheduler: Any) -> dict[str, Any]:
    """Start what XGBoost's workers meet at, beside Dask's scheduler, whose address all of them can reach."""
    host = get_address_host(dask_scheduler.address)
    tracker = RabitTracker(n_workers=n_workers, host_ip=host, sortby="task")
    tracker.start()
    # It also keeps the tracker until the last worker has left.
    Thread(target=_wait, args=(tracker,), daemon=True).start()
    return dict(tracker.worker_args())


def _wait(tracker: RabitTracker) -> None:
    # The workers say what went wrong.
    with suppress(ValueError):
        tracker.wait_for()


def _train_share(
    settings: Mapping[str, Any],
    number: int,
    model: Any,
    make: Callable[[], Iterator[_xgboost.Batch]],
    n_classes: int | None,
    dtypes: pd.Series | None,
) -> Any:
    """Train on one share, together with those that train on the others; only the first gives the model."""
    # The sums of several workers depend on their order, which is that of these names.
    name = f"{number:06d}"
    with (
        collective.CommunicatorContext(**settings, dmlc_task_id=name),
        tempfile.TemporaryDirectory(dir=get_worker().local_directory) as folder,
    ):
        trained = _xgboost.train(model, make, n_classes, dtypes, Path(folder), [StopTogether()])
    return trained if number == 0 else None
