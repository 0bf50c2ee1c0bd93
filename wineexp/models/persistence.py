"""Models as skops files: a file is loaded only where all types in it are trusted."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import skops.io
from sklearn.base import is_regressor
from sklearn.pipeline import Pipeline
from skops.io.exceptions import UnsupportedTypeException, UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from wineexp.core import trust
from wineexp.core.columns import as_texts, is_number
from wineexp.core.errors import SetupError, UserError
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models.golden_rows import NUMBERS, GoldenRows, golden_rows_gap, read_golden_rows
from wineexp.models.pipeline import outputs

# Types that a model may hold besides the public ones of scikit-learn and numpy, and those that the user trusts. Any
# other type is neither stored nor loaded.
TRUSTED_TYPES = [
    "catboost.core.CatBoostClassifier",
    "catboost.core.CatBoostRegressor",
    "collections.OrderedDict",
    # Of what this calls skops asks likewise.
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    # Kernels of Gaussian processes and of kernel ridge regression, and what they are made of.
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.ExpSineSquared",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.RepeatedStratifiedKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "wineexp.evaluation.grouped_folds.GroupedKFold",
    "wineexp.evaluation.grouped_folds.GroupedStratifiedKFold",
    "wineexp.models.conformal.ConformalClassifier",
    "wineexp.models.decision.LossClassifier",
    "wineexp.models.decision.MetricClassifier",
    "wineexp.models.ensemble.SelectionClassifier",
    "wineexp.models.ensemble.StackClassifier",
    "wineexp.models.ensemble_of_numbers.MeanRegressor",
    "wineexp.models.ensemble_of_numbers.SelectionRegressor",
    "wineexp.models.ensemble_of_numbers.StackRegressor",
    "wineexp.models.features.CategoryColumns",
    "wineexp.models.transformers.CategoryCodes",
    "wineexp.models.transformers.DateParts",
    "wineexp.models.transformers.KnownTexts",
    "wineexp.models.transformers.LeaveOut",
    "wineexp.models.transformers.QuantileClipper",
    "wineexp.models.transformers.Ratios",
    "wineexp.models.transformers.SkewedLog",
    "wineexp.models.pipeline.FixedClassesClassifier",
    "wineexp.models.ordinal.CumulativeClassifier",
    "wineexp.models.ordinal.ThresholdClassifier",
    "wineexp.data.split.CopiesTogetherKFold",
    "wineexp.models.regression.TransformingRegressor",
    "wineexp.sweep.rounds.PrunedXGBClassifier",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
]

# The modules of wineexp 0.1 whose types a model may hold: in 0.2 these types have other names.
MODULES_OF_0_1 = (
    "wineexp.conformal",
    "wineexp.decision",
    "wineexp.ensemble",
    "wineexp.feature",
    "wineexp.model",
    "wineexp.ordinal",
    "wineexp.split",
)

MODEL_FILE = "model.skops"


def trusted_types() -> list[str]:
    """`TRUSTED_TYPES` and those that the user trusts."""
    return [*TRUSTED_TYPES, *trust.own_types()]


def check_types(model: Any) -> None:
    """Check that a model, fitted or not, can be stored and loaded.

    Raises
    ------
    SetupError
        It holds a type that is not trusted, or one that skops cannot store.
    """
    try:
        untrusted = set(skops.io.get_untrusted_types(data=skops.io.dumps(model))) - set(trusted_types())
    except UnsupportedTypeException as error:
        raise SetupError(f"the model cannot be stored: {' '.join(str(error).split())}") from error
    if untrusted:
        raise SetupError(_untrusted_message(sorted(untrusted)))


def load(folder: Path) -> Any:
    """The model in a folder, if all its types are in `trusted_types`; MLflow's own list in the folder does not count.

    Raises
    ------
    UserError
        The file is missing, is no skops file, is cut short, holds a type that is not trusted, or a type of a package
        that is not installed, or was stored by wineexp 0.1.
    """
    path = folder / MODEL_FILE
    try:
        return skops.io.load(path, trusted=trusted_types())
    except UntrustedTypesFoundException as error:
        raise UserError(untrusted_types_message(str(error)) or str(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"the stored model has no {MODEL_FILE}") from error
    except ImportError as error:
        raise UserError(f"the stored model is of a package that is not installed here: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{MODEL_FILE} is no whole skops file ({type(error).__name__}: {reason}); it is refused"
        ) from error


def stored_bytes(model: Any) -> int:
    """Bytes that a model takes when it is stored."""
    return len(skops.io.dumps(model))


def untrusted_types_message(skops_message: str) -> str | None:
    """What to do about types that are not trusted; None where the message of skops is about something else."""
    match = re.search(r"Untrusted types found in the file: \[(.*)\]", skops_message)
    if match is None:
        return None
    return _untrusted_message(re.findall(r"'([^']+)'", match[1]))


def _untrusted_message(types: list[str]) -> str:
    old_types = [name for name in types if name.rpartition(".")[0] in MODULES_OF_0_1]
    if old_types:
        return (
            f"the model holds {', '.join(old_types)}: it was stored by wineexp 0.1, whose types have other names in "
            "wineexp 0.2; promote it anew (train it anew, where it is a run's)"
        )
    return (
        f"the model holds {', '.join(types)}, which {'is' if len(types) == 1 else 'are'} not trusted, and is neither "
        f"stored nor loaded. If you trust what their code does, say 'trust=[{','.join(types)}]' wherever you train, "
        f"promote and serve, or set the environment variable {trust.VARIABLE}={','.join(types)}"
    )


def write_golden_rows(fitted: Pipeline, X: pd.DataFrame) -> str:
    """Rows X (n_samples, n_features) with the model's predictions of them, as the JSON of `read_golden_rows`."""
    texts = {str(name): as_texts(X[name]) for name in X if not is_number(X[name])}
    rows = X.assign(**texts).to_dict("split", index=False)
    # Predicted as they will be read, with as many threads as in training: the last bits may depend on how a frame lies
    # in memory, and on how many threads share a computation.
    frame = pd.DataFrame([tuple(row) for row in rows["data"]], columns=rows["columns"])
    with threadpool_limits(NATIVE_THREADS):
        predicted = outputs(fitted, frame)
    if is_regressor(fitted):
        return json.dumps({"rows": rows, NUMBERS: predicted[:, 0].tolist()})
    probabilities = predicted
    prediction_sets = fitted[-1].prediction_sets(probabilities)
    return json.dumps(
        {
            "rows": rows,
            "probabilities": probabilities.tolist(),
            "decisions": fitted[-1].decide(probabilities).tolist(),
            "prediction_sets": None if prediction_sets is None else prediction_sets.tolist(),
        }
    )


def golden_frame(golden: GoldenRows) -> pd.DataFrame:
    """Golden rows as a frame of shape (n_rows, n_features)."""
    return pd.DataFrame(golden.rows, columns=golden.columns)


def pipeline_golden_rows_gap(fitted: Pipeline, folder: Path) -> float:
    """The largest difference between a loaded pipeline's predictions of golden rows and those that were stored.

    Raises
    ------
    UserError
        The folder has no golden rows, or the model has no predictions for them.
    """
    golden = read_golden_rows(folder)
    with threadpool_limits(NATIVE_THREADS):
        return golden_rows_gap(lambda rows: outputs(fitted, pd.DataFrame(rows, columns=golden.columns)), golden)
