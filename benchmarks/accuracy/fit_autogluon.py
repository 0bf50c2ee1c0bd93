"""AutoGluon on one fold, in its own environment: python fit_autogluon.py FOLDER '{"metric": ..., "seconds": ...}'.

FOLDER holds train.csv and test.csv. Written are predictions.csv, with a column `predicted` and, where classes are
predicted, one of probabilities for each class, and params.json, with the versions of packages and the names of the
models.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor

LABEL = "label"


def main(folder: Path, metric: str, seconds: float) -> None:
    """Fit on train.csv, predict test.csv."""
    train, test = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "test"))
    of_numbers = metric == "root_mean_squared_error"
    kind = "regression" if of_numbers else "binary" if train[LABEL].nunique() == 2 else "multiclass"
    predictor = TabularPredictor(LABEL, problem_type=kind, eval_metric=metric, path=str(folder / "models"))
    predictor.fit(train, presets="best_quality", time_limit=seconds, num_cpus=2, num_gpus=0)
    predictions = pd.DataFrame() if of_numbers else predictor.predict_proba(test)
    predictions = predictions.assign(predicted=predictor.predict(test))
    predictions.to_csv(folder / "predictions.csv", index=False)
    packages = ("autogluon.tabular", "lightgbm", "catboost", "scikit-learn")
    params = {f"version.{name}": version(name) for name in packages}
    params["models"] = " ".join(predictor.model_names())
    (folder / "params.json").write_text(json.dumps(params))


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
