"""The work of `python -m wineexp.train` on a large table of two classes, as a plain script with the same libraries."""

import hashlib
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
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

MODELS = {
    "histgb": lambda: HistGradientBoostingClassifier(**HISTGB),
    "xgb": lambda: XGBClassifier(**XGB),
}
HISTGB = {
    "learning_rate": 0.1,
    "max_iter": 200,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.0,
    "early_stopping": False,
    "random_state": 0,
}
XGB = {
    "n_estimators": 200,
    "max_depth": 4,
    "learning_rate": 0.1,
    "min_child_weight": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "tree_method": "hist",
    "n_jobs": 1,
    "random_state": 0,
}
TRUSTED = [
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]


def scores(y, probabilities):
    positive = probabilities[:, 1]
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": metrics.accuracy_score(y, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
        "matthews_corrcoef": metrics.matthews_corrcoef(y, predicted),
        "f1_macro": metrics.f1_score(y, predicted, average="macro"),
        "cohen_kappa": metrics.cohen_kappa_score(y, predicted),
        "log_loss": metrics.log_loss(y, probabilities),
        "brier_score": metrics.brier_score_loss(y, positive),
        "precision": metrics.precision_score(y, predicted),
        "recall": metrics.recall_score(y, predicted),
        "f1": metrics.f1_score(y, predicted),
        "average_precision": metrics.average_precision_score(y, positive),
        "roc_auc": metrics.roc_auc_score(y, positive),
    }


def make_model(name):
    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    feature = ColumnTransformer([("number", numbers, make_column_selector(dtype_include="number"))])
    return Pipeline([("feature", feature), ("model", MODELS[name]())])


def main(folder, raw, store, name):
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("straight")
    with raw.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    frame = pd.read_csv(raw)
    columns = [column for column in frame if column != "label"]
    pa.DataFrameSchema(
        {"label": pa.Column(str, pa.Check.isin(["no", "yes"]))} | {column: pa.Column(float) for column in columns}
    ).validate(frame, lazy=True)
    X, y = frame[columns], (frame["label"] == "yes").astype(int)
    # No row is on both sides of a split together with a copy of it.
    first = ~X.duplicated()
    X, y = X[first], y[first]
    splitter = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    training, holdout = next(splitter.split(X, y))
    X_holdout, y_holdout, X, y = X.iloc[holdout], y.iloc[holdout], X.iloc[training], y.iloc[training]
    folds = list(splitter.split(X, y))
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("straight")
    with threadpool_limits(1), mlflow.start_run(run_name=name):
        mlflow.log_params((XGB if name == "xgb" else HISTGB) | {"n_splits": 5, "holdout": 0.2, "data": "large"})
        dataset = mlflow.data.from_pandas(X.assign(label=y), targets="label", name="large", digest=md5)
        mlflow.log_input(dataset, context="training")
        per_fold, true, predicted = [], [], []
        for number, (train, test) in enumerate(folds):
            model = make_model(name).fit(X.iloc[train], y.iloc[train])
            probabilities = model.predict_proba(X.iloc[test]).astype(float)
            per_fold.append(scores(y.iloc[test], probabilities))
            true.append(y.iloc[test])
            predicted.append(probabilities)
            log.info("fold %d: %s", number, per_fold[-1])
            mlflow.log_metrics({f"fold/{key}": float(value) for key, value in per_fold[-1].items()}, step=number)
        table = pd.DataFrame(per_fold)
        mlflow.log_metrics({f"cv/{key}": value for key, value in table.mean().items()})
        mlflow.log_metrics({f"cv/{key}_std": value for key, value in table.std().items()})
        model = make_model(name).fit(X, y)
        held = model.predict_proba(X_holdout).astype(float)
        mlflow.log_metrics({f"holdout/{key}": float(value) for key, value in scores(y_holdout, held).items()})
        true, predicted = np.concatenate(true), np.concatenate(predicted)
        answer = predicted.argmax(axis=1)
        tables = [
            pd.DataFrame({"true": y, "predicted": p.argmax(axis=1), "no": p[:, 0], "yes": p[:, 1]})
            for y, p in ((true, predicted), (y_holdout.to_numpy(), held))
        ]
        pd.concat(tables).to_parquet(folder / "predictions.parquet", index=False)
        figure, axis = plt.subplots()
        axis.imshow(metrics.confusion_matrix(true, answer, normalize="true"), cmap="RdPu", vmin=0, vmax=1)
        mlflow.log_figure(figure, "figures/confusion.png")
        figure, axis = plt.subplots()
        observed, expected = calibration_curve(true == answer, predicted.max(axis=1), n_bins=10, strategy="quantile")
        axis.plot(expected, observed, marker="o")
        mlflow.log_figure(figure, "figures/probabilities.png")
        drops = permutation_importance(
            model, X_holdout, y_holdout, scoring="roc_auc", n_repeats=5, random_state=0, max_samples=500
        )
        figure, axis = plt.subplots()
        axis.barh(columns, drops.importances_mean, xerr=drops.importances_std)
        mlflow.log_figure(figure, "figures/importance.png")
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(X.head(1000), model.predict(X.head(5))),
            serialization_format="skops",
            skops_trusted_types=TRUSTED,
            pip_requirements=["scikit-learn", "xgboost", "skops", "pandas"],
        )
        mlflow.log_artifacts(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
