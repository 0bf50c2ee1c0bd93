"""`python -m wineexp.add`: from a file to a data set that is trained on, and what is refused."""

import http.server
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from tests.conftest import Command
from wineexp import UserError, add, compose, train
from wineexp.add import AddResult
from wineexp.core import paths
from wineexp.data import pin


def customers(n: int = 120) -> pd.DataFrame:
    """Customers of a telephone company, with much that is wrong with their columns."""
    rng = np.random.default_rng(0)
    calls = rng.normal(50, 10, n).round(2)
    churned = np.where(calls + rng.normal(0, 8, n) > 50, "yes", "no")
    plan = rng.choice(["basic", "pro"], n)
    return pd.DataFrame(
        {
            "Customer Id": np.arange(n) + 7000,
            "code": [f"c{number * 7919 % 10007}" for number in range(n)],
            "calls": calls,
            "plan": plan,
            "plan no": np.where(plan == "pro", 2, 1),
            "country": "PT",
            "since": (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D")).strftime("%Y-%m-%d"),
            "last call": [f"{day % 28 + 1}.{day % 12 + 1}.2024" for day in range(n)],
            "visits": np.where(rng.random(n) < 0.1, "none", rng.integers(0, 9, n).astype(str)),
            "left on": np.where(churned == "yes", "shop", ""),
            "active": rng.random(n) < 0.5,
            "churned": churned,
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder as the working directory, in which wineexp is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def run(*overrides: str, **settings: Any) -> AddResult:
    result = add(compose(*overrides, program="add", **settings))
    assert isinstance(result, AddResult)
    return result


def test_a_table_becomes_a_data_set_that_is_trained_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (folder / "tables").mkdir()
    file = folder / "tables/churn.csv"
    customers().to_csv(file, index=False)
    before = file.read_bytes()
    result = run("file=tables/churn.csv", "target=churned", "noun=[customer, customers]")
    assert [str(path.relative_to(folder)) for path in result.files] == [
        "tables/churn.csv.dvc",
        "conf/data/churn.yaml",
        "conf/target/churned.yaml",
    ]
    assert (file.read_bytes(), pin.read("tables/churn.csv.dvc").path) == (before, file)
    assert result.command == "python -m wineexp.train data=churn"
    written = yaml.safe_load((folder / "conf/data/churn.yaml").read_text())
    assert written["path"] == "tables/churn.csv"
    assert written["drop"] == ["Customer_Id", "code", "country"]
    assert {finding.column: finding.text.split(":")[0] for finding in result.findings} == {
        "Customer_Id": "numbers the rows, from 7,000 to 7,119",
        "code": "has 120 different values in 120 rows; it names the rows",
        "country": "has the same value in every row, 'PT'",
        "plan_no": "says the same as plan",
        "visits": f"{(customers()['visits'] != 'none').sum()} of 120 values are numbers, others are not",
        "left_on": "alone tells the class of 100.0% of the rows; drop it if it is known only afterwards",
    }
    for line in ("  plan         category           pro ", "  churned      target             "):
        assert any(message.startswith(line) for message in caplog.messages)
    assert "Train on it: python -m wineexp.train data=churn" in caplog.text
    trained = train(compose("data=churn", "model=logreg", "split.n_splits=3", "tracking=off"))
    assert trained.task.dataset.noun == ["customer", "customers"]
    assert trained.task.target.metric == "roc_auc"
    assert "is not pinned" not in caplog.text


def test_a_target_of_numbers_is_predicted_as_such(folder: Path) -> None:
    customers().to_csv("churn.csv", index=False)
    result = run("file=churn.csv", "target=calls")
    written = yaml.safe_load((folder / "conf/target/calls.yaml").read_text())
    assert (written["kind"], written["metric"]) == ("regression", "root_mean_squared_error")
    assert "calls" not in {finding.column for finding in result.findings}
    trained = train(compose("data=churn", "model=majority", "split.n_splits=3", "tracking=off"))
    assert trained.scores["root_mean_squared_error"][0] > 0


@pytest.mark.journey
def test_a_column_counts_rows(folder: Path) -> None:
    customers().assign(times=2).to_csv("churn.csv", index=False)
    run("file=churn.csv", "target=churned", "weight=times")
    assert yaml.safe_load((folder / "conf/data/churn.yaml").read_text())["weight"] == "times"
    trained = train(compose("data=churn", "model=majority", "split.n_splits=3", "tracking=off"))
    assert trained.task.weights.tolist() == [2.0] * len(trained.task.y)


def test_nothing_is_overwritten(folder: Path) -> None:
    customers().to_csv("churn.csv", index=False)
    run("file=churn.csv", "target=churned")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=r"data=churn: conf/data/churn.yaml is there already, and nothing is overwritten"
    ):
        run("file=churn.csv", "target=churned")
    assert {path: path.read_bytes() for path in files} == files
    # The pin and the same target serve a second data set.
    assert [path.name for path in run("file=churn.csv", "target=churned", "name=again").files] == ["again.yaml"]
    other = run("file=churn.csv", "target=plan", "name=plans", "drop=[plan no]")
    assert [path.name for path in other.files] == ["plans.yaml", "plan.yaml"]
    (folder / "conf/target/active.yaml").write_text("column: other\n")
    third = run("file=churn.csv", "target=active", "name=third")
    assert [path.name for path in third.files] == ["third.yaml", "third_active.yaml"]
    assert third.files[0].read_text().splitlines()[2] == "  - override /target@_global_.target: third_active"


def test_the_configs_are_written_where_config_dir_says(folder: Path) -> None:
    customers().to_parquet("churn.parquet")
    (folder / "mine").mkdir()
    result = run("file=churn.parquet", "target=churned", "name=customers", config_dir=folder / "mine")
    assert result.files[1] == folder / "mine/data/customers.yaml"
    assert result.command == "python -m wineexp.train --config-dir mine data=customers"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["file=chrn.csv", "target=churned"], "file=chrn.csv: there is no such file; did you mean churn.csv?"),
        (["file=churn.csv", "target=churn"], "target=churn: the table has no such column; did you mean churned?"),
        (["file=churn.csv", "target=since"], "target=since: the column holds dates"),
        (["file=churn.csv", "target=code"], "target=code: 120 different texts are no classes; at most 100 are learned"),
        (["file=churn.csv", "target=country"], "all 120 rows are of class PT, there is nothing to tell apart"),
        (["file=churn.csv", "target=left on"], r"target.column=left_on: \d+ of 120 rows have no label"),
        (["file=churn.csv", "target=churned", "name=red"], "data=red: .*conf/data/red.yaml is there already"),
        (["file=churn.csv", "target=churned", "name=a/b"], "name=a/b: letters, digits, - and _ are wanted"),
        (["file=churn.csv", "target=churned", "name=2024"], "name=2024: .* a letter first"),
        (["file='http://127.0.0.1/'", "target=churned"], "http://127.0.0.1/: the address names no file"),
        (["file=churn.csv", "target=churned", "group=home"], "the data set wants also home"),
        (["file=binary.csv", "target=a"], "binary.csv is not CSV text in UTF-8"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    folder: Path, overrides: list[str], message: str
) -> None:
    customers().to_csv("churn.csv", index=False)
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=message):
        run(*overrides)
    assert sorted(path.name for path in folder.rglob("*.*") if path.is_file()) == ["binary.csv", "churn.csv"]


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The address of a table on a site."""
    served = folder / "served"
    served.mkdir()
    customers().to_csv(served / "churn.csv", index=False)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/churn.csv"
        server.shutdown()


def test_a_file_is_fetched_and_its_pin_says_from_where(folder: Path, url: str) -> None:
    # What was fetched for a command that was refused is not there for the next.
    with pytest.raises(UserError, match="target=churn: the table has no such column"):
        run(f"file='{url}'", "target=churn")
    run(f"file='{url}'", "target=churned")
    pinned = pin.read("data/raw/churn.csv")
    assert (pinned.source_url, pinned.path) == (url, folder / "data/raw/churn.csv")
    again = run(f"file='{url}'", "target=plan", "name=again")
    assert [path.name for path in again.files] == ["again.yaml", "plan.yaml"]


@pytest.mark.parametrize("source", [None, "https://elsewhere.example/churn.csv"])
def test_a_file_of_another_site_is_not_taken_for_that_of_an_address(folder: Path, url: str, source: str | None) -> None:
    file = folder / "data/raw/churn.csv"
    file.parent.mkdir(parents=True)
    customers(60).to_csv(file, index=False)
    if source:
        pin.write(file, source)
    known = f"is from {source}; move data/raw/churn.csv and" if source else "is there already, and nothing says that it"
    with pytest.raises(UserError, match=re.escape(f"file={url}: data/raw/churn.csv {known}")):
        run(f"file='{url}'", "target=churned")
    run("file=data/raw/churn.csv", "target=churned")


@pytest.mark.parametrize("name", [".5", ".nan", "1e5", "two\nlines", "a: b", "cost ${EUR}", "été #1"])
@pytest.mark.usefixtures("folder")
def test_the_name_of_a_column_is_read_back_as_it_stands(name: str) -> None:
    constant = f"{name} too"
    table = pd.DataFrame({"x": [1.5, 2, 3, 4] * 5, name: [0, 1, 0, 1] * 5, constant: 1})
    table.to_csv("2024.csv", index=False)
    add(OmegaConf.merge(compose("file=2024.csv", "target=x", program="add"), {"column": name.replace("$", r"\$")}))
    # Hydra takes no number for a choice.
    cfg = compose("data=table_2024")
    spaced = name.replace(" ", "_")
    assert (cfg.target.column, list(cfg.data["drop"])) == (spaced, [f"{spaced}_too"])


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
def test_the_file_is_pinned_by_dvc_in_a_dvc_project(folder: Path) -> None:
    from dvc.repo import Repo

    Repo.init(str(folder), no_scm=True).close()
    customers().to_csv("churn.csv", index=False)
    run("file=churn.csv", "target=churned")
    assert pin.read("churn.csv").is_pinned
    assert list((folder / ".dvc").glob("cache/files/md5/*/*")) == []
    with Repo(str(folder)) as repo:
        assert [str(out) for out in repo.index.outs] == ["churn.csv"]


@pytest.mark.journey
def test_the_command_line_calls_the_column_target(command: Command, tmp_path: Path) -> None:
    done = command("add", afresh=True)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (
        1,
        ["  - file: nothing is given; file=TABLE.csv", "  - target: nothing is given; target=COLUMN"],
    )
    customers().to_csv(tmp_path / "churn.csv", index=False)
    done = command("add", "file=churn.csv", "target=churned", afresh=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "conf/target/churned.yaml").is_file()
