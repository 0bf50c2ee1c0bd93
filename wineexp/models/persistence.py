"""A stored model as files: untrusted until every byte and every type in them has been checked."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from wineexp.core.errors import UserError
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models.manifest import EXTRA, GOLDEN

# What a model may be made of besides scikit-learn's and numpy's public types. A type that is not listed is neither
# written nor loaded.
TRUSTED_TYPES = [
    "catboost.core.CatBoostClassifier",
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.model_selection._split.RepeatedStratifiedKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "wineexp.models.conformal.ConformalClassifier",
    "wineexp.models.decision.LossClassifier",
    "wineexp.models.decision.MetricClassifier",
    "wineexp.models.ensemble.SelectionClassifier",
    "wineexp.models.ensemble.StackClassifier",
    "wineexp.models.features.LeaveOut",
    "wineexp.models.features.QuantileClipper",
    "wineexp.models.features.Ratios",
    "wineexp.models.features.SkewedLog",
    "wineexp.models.pipeline.FixedClassesClassifier",
    "wineexp.models.ordinal.CumulativeClassifier",
    "wineexp.models.ordinal.ThresholdClassifier",
    "wineexp.data.split.CopiesTogetherKFold",
    "wineexp.sweep.rounds.PrunedXGBClassifier",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]

MODEL = "model.skops"


def load(folder: Path) -> Any:
    """The model in a folder, made of types in `TRUSTED_TYPES` alone, whatever list the folder itself carries.

    Raises
    ------
    UserError
        The file is missing, is not a skops file, was cut short, holds a type that is not listed, or one of a package
        that is not installed.
    """
    path = folder / MODEL
    try:
        return skops.io.load(path, trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException as error:
        raise UserError(untrusted(str(error)) or str(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"the stored model has no {MODEL}") from error
    except ImportError as error:
        raise UserError(f"the stored model is of a package that is not installed here: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{MODEL} is no whole skops file ({type(error).__name__}: {reason}); it is refused") from error


def size(model: Any) -> int:
    """Bytes that a model takes when it is stored."""
    return len(skops.io.dumps(model))


def untrusted(message: str) -> str | None:
    """The sentence on types that are not listed, where this message of skops' is about them."""
    found = re.search(r"Untrusted types found in the file: \[(.*)\]", message)
    if found is None:
        return None
    return (
        f"the model holds {found[1]}, which wineexp.models.persistence.TRUSTED_TYPES does not list; it is "
        "neither stored nor loaded. Add what you trust there"
    )


def golden(model: Any, X: pd.DataFrame) -> str:
    """Rows of X (n_samples, n_features) with the model's own answers, as JSON, for whoever loads it to compare."""
    probabilities = _ask(model, X)
    sets = model[-1].sets(probabilities)
    told = {
        "rows": X.to_dict("split", index=False),
        "probabilities": probabilities.tolist(),
        "decisions": model[-1].decide(probabilities).tolist(),
        "sets": None if sets is None else sets.tolist(),
    }
    return json.dumps(told)


def golden_rows(folder: Path) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """The golden rows (n_samples, n_features) in a folder, and the probabilities (n_samples, n_classes) with them."""
    stored = json.loads((folder / EXTRA / GOLDEN).read_text())
    X = pd.DataFrame(stored["rows"]["data"], columns=stored["rows"]["columns"])
    return X, np.asarray(stored["probabilities"])


def golden_gap(model: Any, folder: Path) -> float:
    """How far a loaded model's probabilities are from those it gave on its golden rows when it was stored: at most.

    Raises
    ------
    UserError
        The folder has no golden rows, or the model cannot answer them.
    """
    try:
        X, probabilities = golden_rows(folder)
        return float(np.abs(_ask(model, X) - probabilities).max())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the model cannot answer its golden rows ({type(error).__name__}: {error})") from error


def _ask(model: Any, X: pd.DataFrame) -> Any:
    with threadpool_limits(NATIVE_THREADS):
        return model.predict_proba(X)
