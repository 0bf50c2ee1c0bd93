"""A study in pictures, as Optuna draws them."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import TrialState

log = logging.getLogger(__name__)


def draw(study: Study, folder: Path) -> list[Path]:
    """Draw a study's figures into a folder and give their files; one that has too little to show is left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    if not any(trial.state is TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
        return []
    many = len(study.directions) > 1
    first: Callable[[Any], float] = lambda trial: float(trial.values[0])  # noqa: E731
    options: dict[str, Any] = {"target": first, "target_name": "first objective"} if many else {}
    figures: dict[str, Callable[[], Any]] = {
        "history": lambda: drawn.plot_optimization_history(study, **options),
        "importances": lambda: drawn.plot_param_importances(study, **options),
        "slice": lambda: drawn.plot_slice(study, **options),
        "parallel_coordinate": lambda: drawn.plot_parallel_coordinate(study, **options),
        "timeline": lambda: drawn.plot_timeline(study),
    }
    if len(study.directions) in (2, 3):
        figures["pareto"] = lambda: drawn.plot_pareto_front(study)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, plot in figures.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                warnings.simplefilter("ignore", UserWarning)
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
