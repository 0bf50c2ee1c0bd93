"""A stored model as files: untrusted until every byte and every type in them has been checked."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from wineexp.errors import UserError
from wineexp.evaluation import NATIVE_THREADS

# What a model may be made of besides scikit-learn's and numpy's public types. A type that is not listed is neither
# written nor loaded.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.model_selection._split.RepeatedStratifiedKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "wineexp.feature.QuantileClipper",
    "wineexp.feature.Ratios",
    "wineexp.feature.SkewedLog",
    "wineexp.model.FixedClassesClassifier",
    "wineexp.sweep.rounds.PrunedXGBClassifier",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]

MODEL = "model.skops"
# Files that come with a model; MLflow keeps them in a folder of this name.
EXTRA = "extra_files"
GOLDEN = "golden.json"
# Written by MLflow when it hands a version out; no part of what was stored.
NOT_STORED = {"registered_model_meta"}


def manifest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in it.

    Raises
    ------
    UserError
        Something in it is a link or no regular file: what it leads to was never stored.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError(f"{name} in the stored model is no regular file but leads elsewhere; it is refused")
        if path.is_file() and name not in NOT_STORED:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def digest(files: Mapping[str, str]) -> str:
    """One SHA-256 for a whole manifest, as `sha256sum` of its sorted lines would give it."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Hold a folder against the manifest that was taken when it was stored.

    Raises
    ------
    UserError
        With every file that is missing, was added, or has other bytes.
    """
    found = manifest(folder)
    if expected and not found:
        raise UserError(f"none of the {len(expected)} files of the stored model is there any more")
    faults = [f"{name} is missing from the stored model" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{name} was added to the stored model" for name in sorted(found.keys() - expected.keys())]
    faults += [
        f"{name} in the stored model has SHA-256 {found[name]}, but {expected[name]} was registered"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    if faults:
        raise UserError(*(f"{fault}; it is not loaded" for fault in faults))


def load(folder: Path) -> Any:
    """The model in a folder, made of types in `TRUSTED_TYPES` alone, whatever list the folder itself carries.

    Raises
    ------
    UserError
        The file is missing, is not a skops file, was cut short, or holds a type that is not listed.
    """
    path = folder / MODEL
    try:
        return skops.io.load(path, trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException as error:
        raise UserError(untrusted(str(error)) or str(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"the stored model has no {MODEL}") from error
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
        f"the model holds {found[1]}, which wineexp.artifact.TRUSTED_TYPES does not list; it is neither stored nor "
        "loaded. Add what you trust there"
    )


def golden(model: Any, X: pd.DataFrame) -> str:
    """Rows of X (n_samples, n_features) with the model's own answers, as JSON, for whoever loads it to compare."""
    return json.dumps({"rows": X.to_dict("split", index=False), "probabilities": _ask(model, X).tolist()})


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
