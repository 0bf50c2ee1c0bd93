"""Optuna's figures of a study."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import TrialState

log = logging.getLogger(__name__)


def draw_study(study: Study, folder: Path) -> list[Path]:
    """Draw a study's figures into a folder, and give their files; a figure that lacks trials is left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    # It tells of choices that look like numbers, which is what they are meant to be.
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as visualization

    if not any(trial.state is TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
        return []
    first_value: Callable[[Any], float] = lambda trial: float(trial.values[0])  # noqa: E731
    options: dict[str, Any] = (
        {"target": first_value, "target_name": "first objective"} if len(study.directions) > 1 else {}
    )
    plots: dict[str, Callable[[], Any]] = {
        "history": lambda: visualization.plot_optimization_history(study, **options),
        "importances": lambda: visualization.plot_param_importances(study, **options),
        "slice": lambda: visualization.plot_slice(study, **options),
        "parallel_coordinate": lambda: visualization.plot_parallel_coordinate(study, **options),
        "timeline": lambda: visualization.plot_timeline(study),
    }
    if len(study.directions) in (2, 3):
        plots["pareto"] = lambda: visualization.plot_pareto_front(study)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, plot in plots.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                warnings.simplefilter("ignore", UserWarning)
                # Optuna would set its style for all later figures of this process.
                with mpl.rc_context():
                    axes = plot()
        except Exception as error:
            log.debug("no %s of this study: %s", name, error)
            pyplot.close("all")
            continue
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        file = folder / f"{name}.png"
        figure.savefig(file, bbox_inches="tight", dpi=100)
        files.append(file)
        pyplot.close("all")
    return files
