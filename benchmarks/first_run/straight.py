"""The work of `python -m wineexp.train model=xgb`, as a plain script with the same libraries."""

import hashlib
import json
import logging
import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import pandera.pandas as pa
from mlflow.models import infer_signature
from sklearn.calibration import calibration_curve
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
)
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

PARAMS = {
    "n_estimators": 200,
    "max_depth": 4,
    "learning_rate": 0.1,
    "min_child_weight": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "gamma": 0.0,
    "reg_alpha": 0.0,
    "reg_lambda": 1.0,
    "tree_method": "hist",
    "n_jobs": 1,
    "random_state": 0,
}
TRUSTED = [
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]


def scores(y, probabilities):
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "matthews_corrcoef": matthews_corrcoef(y, predicted),
        "f1_macro": f1_score(y, predicted, average="macro"),
        "log_loss": log_loss(y, probabilities, labels=[0, 1, 2]),
    }


def proba(model, X):
    probabilities = model.predict_proba(X).astype(float)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


folder = Path(sys.argv[1])
logging.basicConfig(
    level=logging.INFO,
    format="%(message)s",
    handlers=[logging.StreamHandler(), logging.FileHandler(folder / "train.log")],
)
log = logging.getLogger("straight")

raw = Path(sys.argv[2])
content = raw.read_bytes()
md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
assert md5 == "3e584720e6718d28509f86f05b7885a1"
frame = pd.read_csv(raw, header=None)
frame.columns = ["cultivar", *(f"x{i}" for i in range(13))]
frame = frame.astype(dict.fromkeys(frame.columns[1:], float))
pa.DataFrameSchema(
    {"cultivar": pa.Column(int, pa.Check.isin([1, 2, 3]))}
    | {name: pa.Column(float, pa.Check.in_range(0, 2500)) for name in frame.columns[1:]}
).validate(frame, lazy=True)
X, y = frame.drop(columns="cultivar"), frame["cultivar"] - 1
groups = X.groupby(list(X.columns), sort=False).ngroup().to_numpy()
splitter = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0)
training, holdout = next(splitter.split(X, y, groups))
X_holdout, y_holdout, X, y = X.iloc[holdout], y.iloc[holdout], X.iloc[training], y.iloc[training]
folds = list(splitter.split(X, y, groups[training]))


def make_model():
    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    text = Pipeline(
        [("impute", SimpleImputer(strategy="most_frequent")), ("indicate", OneHotEncoder(sparse_output=False))]
    )
    feature = ColumnTransformer(
        [
            ("number", numbers, make_column_selector(dtype_include="number")),
            ("text", text, make_column_selector(dtype_exclude="number")),
        ]
    )
    return Pipeline([("feature", feature), ("model", XGBClassifier(**PARAMS))])


mlflow.set_tracking_uri(sys.argv[3])
mlflow.set_experiment("straight")
with mlflow.start_run(run_name="xgb"):
    mlflow.log_params(PARAMS | {"n_splits": 5, "holdout": 0.2, "strategy": "median", "data": "cultivar"})
    dataset = mlflow.data.from_pandas(X.assign(cultivar=y), targets="cultivar", name="cultivar", digest=md5)
    mlflow.log_input(dataset, context="training")
    per_fold, true, predicted = [], [], []
    for number, (train, test) in enumerate(folds):
        model = make_model().fit(X.iloc[train], y.iloc[train])
        probabilities = proba(model, X.iloc[test])
        per_fold.append(
            scores(y.iloc[test], probabilities)
            | {"majority_accuracy": np.mean(y.iloc[test] == np.bincount(y.iloc[train]).argmax())}
        )
        true.append(y.iloc[test])
        predicted.append(probabilities)
        log.info("fold %d: %s", number, per_fold[-1])
        mlflow.log_metrics({f"fold/{name}": float(value) for name, value in per_fold[-1].items()}, step=number)
    table = pd.DataFrame(per_fold)
    mlflow.log_metrics({f"cv/{name}": value for name, value in table.mean().items()})
    mlflow.log_metrics({f"cv/{name}_std": value for name, value in table.std().items()})
    model = make_model().fit(X, y)
    held = scores(y_holdout, proba(model, X_holdout))
    mlflow.log_metrics({f"holdout/{name}": float(value) for name, value in held.items()})

    true, predicted = np.concatenate(true), np.concatenate(predicted)
    answer = predicted.argmax(axis=1)
    figure, axis = plt.subplots(figsize=(5.2, 4.4))
    counts = confusion_matrix(true, answer)
    axis.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="RdPu", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axis.text(column, row, str(count))
    mlflow.log_figure(figure, "figures/confusion.png")
    figure, axis = plt.subplots(figsize=(5.2, 4.4))
    observed, expected = calibration_curve(true == answer, predicted.max(axis=1), n_bins=10, strategy="quantile")
    axis.plot([0, 1], [0, 1], linestyle=":")
    axis.plot(expected, observed, marker="o")
    mlflow.log_figure(figure, "figures/probabilities.png")
    drops = permutation_importance(
        model,
        X_holdout,
        y_holdout,
        scoring=lambda model, X, y: accuracy_score(y, proba(model, X).argmax(axis=1)),
        n_repeats=5,
        random_state=0,
    )
    figure, axis = plt.subplots(figsize=(5.2, 4.4))
    axis.barh(list(X), drops.importances_mean, xerr=drops.importances_std)
    mlflow.log_figure(figure, "figures/importance.png")
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(X, model.predict(X)),
        serialization_format="skops",
        skops_trusted_types=TRUSTED,
        pip_requirements=["scikit-learn", "xgboost", "skops", "pandas"],
    )
    log.info(json.dumps({name: [table[name].mean(), held.get(name)] for name in table}, indent=1))
    mlflow.log_artifacts(folder)
