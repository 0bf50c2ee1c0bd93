"""Batch scoring: a server's answers, to the bit, for files of any size, wherever a process was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wineexp.predict
from tests.conftest import environment, run
from tests.serving.conftest import Server, Store
from wineexp import compose
from wineexp.core.errors import UserError
from wineexp.predict import PredictResult


@pytest.fixture(scope="module")
def rows(server: Server) -> pd.DataFrame:
    """Rows of the served model's features between a column that it does not know and another."""
    samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
    frame = pd.DataFrame(samples * 4)
    random = np.random.default_rng(0)
    frame *= random.uniform(0.8, 1.2, frame.shape)
    frame.loc[3, "hue"] = np.nan
    frame.insert(0, "bottle", [f"bottle {number}, red" for number in range(len(frame))])
    frame["stock"] = range(len(frame))
    return frame


def predict(store: Store, folder: Path, *overrides: str) -> PredictResult:
    settings = [f"output={folder}/answers.parquet", f"tracking.uri={store.uri}", *overrides]
    result: PredictResult = wineexp.predict(compose(*settings, program="predict"))
    return result


@pytest.mark.parametrize("version", ["champion", "1"])
def test_the_answers_are_those_of_a_server_to_the_bit(
    version: str, server: Server, store: Store, rows: pd.DataFrame, tmp_path: Path
) -> None:
    """Version 1 is linear, and its sums have other bits where many rows are computed at once."""
    rows.to_csv(tmp_path / "rows.csv", index=False)
    result = predict(store, tmp_path, f"input={tmp_path}/rows.csv", f"alias='{version}'", "chunk_rows=16")
    answers = pd.read_parquet(result.output)
    assert list(answers["bottle"]) == list(rows["bottle"])
    assert list(answers["stock"]) == [str(number) for number in rows["stock"]]
    features = rows.drop(columns=["bottle", "stock"])
    if version == "champion":
        served = [
            server.post("/predict", {name: None if pd.isna(value) else value for name, value in row.items()}).json()
            for row in features.to_dict("records")
        ]
        for (_, answer), response in zip(answers.iterrows(), served, strict=True):
            (prediction,) = response["predictions"]
            assert answer["decision"] == prediction["class"]
            assert {name: answer[f"probability.{name}"] for name in prediction["probabilities"]} == (
                prediction["probabilities"]
            )
            assert answer["outside"] == ", ".join(prediction["out_of_range"])
    rows.to_parquet(tmp_path / "rows.parquet")
    other = predict(store, tmp_path, f"input={tmp_path}/rows.parquet", f"alias='{version}'", f"output={tmp_path}/b.csv")
    read = pd.read_csv(other.output, dtype={"decision": str}, keep_default_na=False)
    assert list(read["stock"]) == list(rows["stock"])
    for name in answers:
        if name != "stock":
            assert list(read[name]) == list(answers[name]), name
    made_by = json.loads(result.provenance.read_text())
    assert made_by["rows"] == len(rows)
    assert made_by["model"]["version"] == result.version == (2 if version == "champion" else 1)


def test_all_faults_of_a_file_are_told_by_line_and_column(store: Store, rows: pd.DataFrame, tmp_path: Path) -> None:
    wrong = rows.astype(object)
    wrong.loc[1, "alcohol"] = "much"
    wrong.loc[30, "ash"] = "1,5"
    wrong.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError) as refused:
        predict(store, tmp_path, f"input={tmp_path}/rows.csv", "chunk_rows=10")
    faults = [fault.removeprefix(f"input={tmp_path}/rows.csv: ") for fault in refused.value.faults]
    assert [fault.partition(":")[0] for fault in faults] == ["line 3, alcohol", "line 32, ash"]
    assert "decimals are written with a point" in faults[1]
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv"}, "there is neither an output nor a part of one"
    rows.rename(columns={"ash": "ashes", "stock": "decision"}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError, match=r"the column ash is missing\n.*the column decision has the name of one of"):
        predict(store, tmp_path, f"input={tmp_path}/rows.csv")


def test_what_is_not_a_table_of_rows_is_refused(store: Store, rows: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    head = ",".join(rows)
    cells = ",".join(map(str, rows.iloc[0].replace({"bottle 0, red": "b"})))
    for content, message in (
        (b"", "the file is empty"),
        (f"{head}\n".encode(), "there are no rows"),
        (f"{head}\n{cells},1\n".encode(), "line 2 has 16 cells, and the header 15"),
        (f"{head}\n{cells}\n\xff".encode("latin-1"), "not in UTF-8"),
        (f"{head},ash\n".encode(), "the columns ash are there more than once"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            predict(store, tmp_path, f"input={path}")
    assert {each.name for each in tmp_path.iterdir()} == {"rows.csv"}


def test_an_output_is_not_overwritten_and_the_same_command_does_nothing_twice(
    store: Store, rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.to_csv(tmp_path / "rows.csv", index=False)
    first = predict(store, tmp_path, f"input={tmp_path}/rows.csv")
    before = first.output.stat().st_mtime_ns
    assert predict(store, tmp_path, f"input={tmp_path}/rows.csv").rows == len(rows)
    assert first.output.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="it is there already"):
        predict(store, tmp_path, f"input={tmp_path}/rows.csv", "alias='1'")
    rows.head(3).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError, match="it is there already"):
        predict(store, tmp_path, f"input={tmp_path}/rows.csv")


@pytest.mark.journey
def test_a_killed_process_is_gone_on_with(store: Store, rows: pd.DataFrame, tmp_path: Path) -> None:
    pd.concat([rows] * 500, ignore_index=True).to_csv(tmp_path / "rows.csv", index=False)
    whole = predict(store, tmp_path, f"input={tmp_path}/rows.csv", "chunk_rows=500")
    arguments = ["input=rows.csv", "output=again.parquet", "chunk_rows=500", f"tracking.uri={store.uri}"]
    command: list[Any] = [sys.executable, "-m", "wineexp.predict", *arguments]
    variables = environment(tmp_path) | {"MLFLOW_TRACKING_URI": store.uri}
    process = subprocess.Popen(command, cwd=tmp_path, env=variables)
    deadline = time.monotonic() + 120
    while not (tmp_path / ".again.parquet.parts" / "00000005.parquet").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "again.parquet").exists()
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of the rows had been predicted before" in done.stdout
    assert (tmp_path / "again.parquet").read_bytes() == whole.output.read_bytes()
    assert not (tmp_path / ".again.parquet.parts").exists()


@pytest.mark.parametrize("program", ["predict", "feedback"])
def test_a_command_leaves_nothing_but_what_it_was_asked_for(program: str, tmp_path: Path) -> None:
    options = {"predict": ("input=none.csv", "output=answers.csv"), "feedback": ("file=none.csv", "log=.")}[program]
    done = run(tmp_path, program, *options)
    assert done.returncode == 1
    assert "none.csv: there is no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []
