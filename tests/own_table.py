"""Tables of a user's own, which are not about wine; one of customers has the columns that tables of daily life have."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import new_database
from wineexp.data.dataset import Dataset
from wineexp.data.pin import Pin

CONFIGS = {
    "data/customers.yaml": """# Customers of a telephone company.
defaults:
  - override /target@_global_.target: churn

_target_: tests.own_table.customers
noun: [customer, customers]
columns: [calls, plan]
""",
    "target/churn.yaml": """# Whether a customer leaves.
_target_: wineexp.data.target.Target
column: churn
bins: null
labels: null
ordinal: false
metric: accuracy
direction: maximize
""",
}


@contextmanager
def own_project(folder: Path, table: pd.DataFrame, choices: Mapping[str, str]) -> Iterator[Path]:
    """Make a folder the working folder, with a table and a store of its own.

    Parameters
    ----------
    folder
    table
        Is written to `table.csv`.
    choices
        Choices below `conf/`, as `data/survey`, with their texts, in which FOLDER stands for the folder.
    """
    table.to_csv(folder / "table.csv", index=False)
    for name, text in choices.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("FOLDER", str(folder)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(folder))
        yield folder


def write_configs(folder: Path) -> Path:
    """Write the configs of this data set and its target below a folder; gives the folder for `--config-dir`."""
    for name, text in CONFIGS.items():
        path = folder / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "conf"


def frame(n_rows: int = 200) -> pd.DataFrame:
    """Customers, some of whose calls and plans are missing; one has a plan that no other has."""
    rng = np.random.default_rng(0)
    calls = rng.normal(50, 10, n_rows).round(2)
    table = pd.DataFrame(
        {
            "calls": np.where(rng.random(n_rows) < 0.1, np.nan, calls),
            "day calls": rng.integers(0, 9, n_rows),
            "plan": rng.choice(["basic", "pro"], n_rows).astype(object),
            "active": rng.random(n_rows) < 0.5,
            "tenure": pd.to_timedelta(rng.integers(0, 900, n_rows), "D"),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n_rows), "D"),
            "grade": rng.integers(0, 3, n_rows),
            "sex": rng.choice(["f", "m"], n_rows),
            "note": None,
        }
    )
    table.loc[7, "plan"] = "gold"
    table.loc[8:20, "plan"] = None
    table.loc[5:9, "since"] = pd.NaT
    return table.assign(churn=np.where(calls + rng.normal(0, 3, n_rows) > 50, "yes", "no"))


def customers(columns: list[str], noun: list[str], unlabelled: list[int] | None = None) -> Dataset:
    """Some columns of the table, without the labels of some rows."""
    table = frame()[[*columns, "churn"]]
    table.loc[unlabelled or [], "churn"] = None
    content = table.to_csv().encode()
    pin = Pin(Path("customers.csv.dvc"), Path("customers.csv"), hashlib.md5(content).hexdigest(), len(content), None)
    return Dataset(table, tuple(columns), dict.fromkeys(columns, ""), (pin,), noun)
