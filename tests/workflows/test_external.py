"""`data.engine=external`: Parquet files that are never in memory, through every program that a run goes through.

The batches here are of 700 rows, and the sample is of 1,000 of the 4,000.
"""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig
from sklearn.metrics import roc_auc_score

from tests.conftest import new_database
from wineexp import UserError, compose, promote, reproduce, train
from wineexp.data import external_table
from wineexp.data.hashed_split import HashedSplit
from wineexp.data.row_hashes import mixed
from wineexp.data.task import Task
from wineexp.models.compiled.flatten import flatten
from wineexp.train import TrainResult
from wineexp.workflows.experiment import assemble

N_ROWS = 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Orders, every tenth of them a copy of an earlier one, in two files, with their configs."""
    folder = tmp_path_factory.mktemp("orders")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": np.where(rng.random(N_ROWS) < 0.05, np.nan, rng.normal(size=N_ROWS)),
            "items": rng.integers(1, 9, N_ROWS),
            "country": rng.choice(["at", "be", "ch"], N_ROWS),
            "placed": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, N_ROWS), "D"),
            "customer": rng.integers(0, 500, N_ROWS).astype(str),
        }
    )
    table.loc[::10] = table.loc[1::10].set_axis(table.index[::10])
    signal = table["amount"].fillna(0) + (table["country"] == "at") + rng.normal(0, 0.7, N_ROWS)
    table["returned"] = np.where(signal > 0.5, "yes", "no")
    table["cost"] = signal
    table.iloc[:1500].to_parquet(folder / "a.parquet", row_group_size=400)
    table.iloc[1500:].to_parquet(folder / "b.parquet")
    data = (
        f"_target_: wineexp.data.table\npath: [{folder}/a.parquet, {folder}/b.parquet]\n"
        "targets: [returned, cost]\nengine: external\nsample_rows: 1000\n"
    )
    target = "_target_: wineexp.data.target.Target\nbins: null\nlabels: null\nordinal: false\ntransform: null\n"
    for name, text in {
        "data/orders": f"{data}drop: [customer]\n",
        "data/grouped": f"{data}group: customer\n",
        "target/returned": f"{target}column: returned\nmetric: roc_auc\n",
        "target/cost": f"{target}column: cost\nkind: regression\nmetric: mean_absolute_error\ndirection: minimize\n",
    }.items():
        (folder / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(autouse=True, scope="module")
def small_batches() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_table, "BATCH_ROWS", 700)
        yield


def config(folder: Path, *overrides: str) -> DictConfig:
    settings = ["data=orders", "target=returned", "split.n_splits=2", "model.n_estimators=10", "feature=raw"]
    return compose(*settings, *overrides, config_dir=folder)


@pytest.fixture(scope="module")
def trained(folder: Path) -> TrainResult:
    """A recorded run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        new_database(folder)
        return train(config(folder, f"tracking.uri=sqlite:///{folder}/mlflow.db"))


def all_rows(task: Task, fold: int) -> np.ndarray:
    assert task.plan is not None
    return np.concatenate([batch.rows for batch in task.plan.test_rows(["items"], fold)])


def test_every_row_is_scored_once_and_recorded(trained: TrainResult, folder: Path) -> None:
    parts = sorted(folder.glob("mlruns/*/*/artifacts/all_predictions/*.parquet"))
    assert [part.stem for part in parts] == ["fold 1", "fold 2", "holdout"]
    tables = [pd.read_parquet(part) for part in parts]
    assert sorted(np.concatenate([table["row"] for table in tables])) == list(range(N_ROWS))
    roc_aucs = [*(fold.scores["roc_auc"] for fold in trained.folds), trained.holdout["roc_auc"]]
    for table, score in zip(tables, roc_aucs, strict=True):
        assert roc_auc_score(table["true"] == "yes", table["probability yes"]) == pytest.approx(score, rel=1e-12)
    sample = pd.read_parquet(next(folder.glob("mlruns/*/*/artifacts/predictions.parquet")))
    assert 900 < len(sample) < 1100
    whole = pd.concat(tables).set_index("row")
    assert (whole.loc[sample["row"], "probability yes"].to_numpy() == sample["probability yes"]).all()


def test_it_scores_as_in_memory(trained: TrainResult, folder: Path) -> None:
    in_memory = train(config(folder, "tracking=off", "data.engine=memory"))
    assert trained.scores["roc_auc"][0] == pytest.approx(in_memory.scores["roc_auc"][0], abs=0.02)
    assert trained.scores["roc_auc"][0] > 0.75
    assert in_memory.task.dataset.duplicates == trained.task.dataset.duplicates


def test_copies_stay_together_and_folds_do_not_depend_on_the_order_of_rows(trained: TrainResult, folder: Path) -> None:
    table = pd.concat([pd.read_parquet(folder / name) for name in ("a.parquet", "b.parquet")], ignore_index=True)
    features = table[["amount", "items", "country", "placed"]]
    sets = features.groupby(list(features), dropna=False).ngroup()
    in_folds = [set(sets[all_rows(trained.task, fold)]) for fold in range(2)]
    assert not in_folds[0] & in_folds[1]
    assert min(map(len, in_folds)) > 1000
    assert trained.task.leaks["copies"] == 0
    hashes = np.arange(10, dtype=np.uint64)
    assert (mixed(hashes, 1)[::-1] == mixed(hashes[::-1], 1)).all()


def test_a_group_stays_together(folder: Path) -> None:
    task = assemble(config(folder, "data=grouped", "tracking=off")).task
    table = pd.concat([pd.read_parquet(folder / name) for name in ("a.parquet", "b.parquet")], ignore_index=True)
    customers = [set(table["customer"][all_rows(task, fold)]) for fold in range(2)]
    assert customers[0]
    assert not customers[0] & customers[1]


def test_folds_are_even_and_other_seeds_give_others() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
    split, other = (HashedSplit(5, 2, seed, 5, 0, 0) for seed in (0, 1))
    sizes = [int(split.is_tested(hashes, fold).sum()) for fold in range(10)]
    assert all(3000 < size < 3400 for size in sizes), sizes
    assert split.fingerprint(hashes) != other.fingerprint(hashes)
    assert not (split.is_held_out(hashes) & split.is_trained_on(hashes, None)).any()


@pytest.mark.journey
def test_it_is_reproduced_and_promoted_with_a_compiled_form(trained: TrainResult, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    certificate = reproduce(compose(f"run={trained.run_id}", uri, program="reproduce"))
    assert certificate.first_difference is None
    assert any("row" in pair.name or "predictions" in pair.name for pair in certificate.values)
    settings = [f"run={trained.run_id}", uri, "registry.name=orders", "repeats=1", "allow=[dirty,data]"]
    version = promote(compose(*settings, program="promote")).version
    assert version.tags["model.form"] == "compiled"
    card = next(folder.glob("mlruns/**/model_card.md"), None) or next(folder.glob("mlruns/**/*card*.md"))
    assert "are of a sample of" in card.read_text()


def test_shares_of_the_rows_hold_what_is_trained_on(trained: TrainResult) -> None:
    plan = trained.task.plan
    assert plan is not None
    features = ["amount", "items", "placed"]
    whole = list(plan.training_rows(features, 0))
    shares = [pickle.loads(pickle.dumps(share)) for share in plan.shares(0, 3)]  # as they are sent
    parts = [batch for share in shares for batch in share.training_rows(features)]
    assert [share.rows for share in shares] == [range(0, 1333), range(1333, 2666), range(2666, 4000)]
    for column in ("rows", "y"):
        expected = np.concatenate([getattr(batch, column) for batch in whole])
        assert (np.concatenate([getattr(batch, column) for batch in parts]) == expected).all()
    frames = [pd.concat([batch.X for batch in batches], ignore_index=True) for batches in (parts, whole)]
    pd.testing.assert_frame_equal(*frames)


def test_dask_that_is_missing_is_named_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name))
    with pytest.raises(UserError, match=r"needs the package distributed, .*: pip install 'wineexp\[dask\]'"):
        assemble(config(folder, "data.engine=dask", "data.path=nothing.parquet", "tracking=off"))


def test_numbers_and_categories_as_they_are(folder: Path) -> None:
    result = train(config(folder, "target=cost", "feature=native", "tracking=off"))
    assert result.scores["mean_absolute_error"][0] < 0.9 * result.scores["baseline_mean_absolute_error"][0]
    assert flatten(result.pipeline, result.task.X), "it cannot be compiled"


@pytest.mark.parametrize(
    ("overrides", "faults"),
    [
        (["model=histgb"], ["a HistGradientBoostingClassifier needs all rows in memory", "choose model=xgb"]),
        (["early_stopping.rounds=5"], ["early_stopping.rounds: data.engine=external does not set rows aside"]),
        (["+data.time=placed"], ["data.time: data.engine=external splits rows by a hash"]),
        (["data.engine=disk"], ["data.engine=disk: one of memory, external, dask is wanted"]),
        (["model=histgb", "data.engine=dask"], ["needs all rows in memory, and data.engine=dask avoids that"]),
        (["+data.scheduler=tcp://host:8786"], ["data.scheduler=tcp://host:8786: data.engine=external trains on this"]),
        (["split=time", "data.sample_rows=5"], ["data.sample_rows=5: at least 1,000 are wanted"]),
        (
            ["+data.columns={items: {range: [1, 5]}}"],
            ["a.parquet, items: ", "b.parquet, items: ", "are not from 1 to 5"],
        ),
        (["data.path=README.md"], ["README.md is no Parquet file that can be read", "write CSV as Parquet"]),
        (["target.column=nothing"], ["the data has no such column"]),
    ],
)
def test_what_does_not_go_with_it_is_refused(folder: Path, overrides: list[str], faults: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        assemble(compose("data=orders", "target=returned", "tracking=off", *overrides, config_dir=folder))
    for fault in faults:
        assert fault in str(refusal.value)
