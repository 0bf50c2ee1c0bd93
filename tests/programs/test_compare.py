"""`python -m wineexp.compare`: rankings of recorded runs in each format, the page and the lineage."""

import contextlib
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.conftest import new_database, run
from tests.pages import Page, check_accessible, check_self_contained
from tests.stores import copy_run
from wineexp import UserError, compare, compose, train
from wineexp.data import pin
from wineexp.evaluation.comparison import corrected_t_test

EXPERIMENT = "cultivar-cultivar"
# A study of four trials, two of which have a hopeless parameter and are pruned; its best trial is run once more.
SWEEP = (
    *("model=logreg", "model.C=1,0.0000001", "hydra/sweeper/sampler=grid", "hydra.sweeper.study_name=tuned"),
    *("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"),
)


class Store:
    """A tracking store with runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = new_database(folder)
        self.client = mlflow.MlflowClient(self.uri)

    def train_command(self, *overrides: str) -> None:
        done = run(self.folder, "train", *overrides)
        assert done.returncode == 0, done.stdout + done.stderr

    def compare(self, *overrides: str) -> str:
        """What compare prints, run in this process."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            compare(compose(*overrides, program="compare"))
        return output.getvalue()

    def compare_json(self, *overrides: str) -> Any:
        return json.loads(self.compare(*overrides, "format=json"))

    def compare_command(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        done = run(self.folder, "compare", *overrides)
        assert done.returncode == 0, done.stderr
        return done

    def earliest(self, name: str) -> Any:
        """The earliest run of this name."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        return [run for run in self.client.search_runs([experiment.experiment_id]) if run.info.run_name == name][-1]

    def fold_scores(self, run_id: str, metric: str = "accuracy") -> np.ndarray:
        history = self.client.get_metric_history(run_id, f"fold/{metric}")
        return np.array([point.value for point in sorted(history, key=lambda point: point.step)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two trainings, a study with pruned trials, and copies: of other folds, another target, and not to be ranked."""
    store = Store(tmp_path_factory.mktemp("compare"))
    new_database(store.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.chdir(store.folder)
        client = store.client
        store.train_command("model=logreg")
        majority = client.get_run(train(compose("model=majority")).run_id)
        store.train_command("-m", *SWEEP)
        logreg = store.earliest("logreg scaled grouped")
        copy_run(client, logreg)
        for original in (logreg, majority):
            name = original.info.run_name.replace("grouped", "stratified")
            copy_run(client, original, tags={"split.sha256": "5" * 64}, params={"split": "stratified"}, name=name)
            loss = {"target.metric": "log_loss", "target.direction": "minimize"}
            copy_run(client, original, tags={"deciding_metric": "log_loss"}, params=loss)
        copy_run(client, logreg, tags={"split.sha256": ""}, name="left out")
        copy_run(client, logreg, metrics={"cv/accuracy": math.nan}, name="left out")
        copy_run(client, logreg, status="FAILED", name="left out")
        client.create_registered_model("wine")
        tags = {"model.sha256": "a" * 64, "model.files": json.dumps({"model.skops": "b" * 64})}
        version = client.create_model_version("wine", store.folder.as_uri(), logreg.info.run_id, tags)
        client.set_registered_model_alias("wine", "champion", version.version)
        yield store


@pytest.fixture(scope="module")
def compared(store: Store) -> Any:
    """The rankings of all runs, as JSON."""
    return store.compare_json()


def rankings_of(compared: Any, split: str, metric: str) -> list[Any]:
    return [ranking for ranking in compared["rankings"] if (ranking["split"], ranking["metric"]) == (split, metric)]


def test_other_folds_and_other_targets_have_rankings_of_their_own(compared: Any) -> None:
    (stratified,) = rankings_of(compared, "stratified", "accuracy")
    assert [row["run"] for row in stratified["runs"]] == ["logreg scaled stratified", "majority scaled stratified"]
    (loss,) = rankings_of(compared, "grouped", "log_loss")
    assert [row["run"] for row in loss["runs"]] == ["logreg scaled grouped", "majority scaled grouped"]
    # The best trial of the study is run again with another seed, and so on other folds, as is the model untuned.
    first, again = rankings_of(compared, "grouped", "accuracy")
    assert first["split.sha256"] != again["split.sha256"]
    assert [row["run"].partition(":")[0] for row in again["runs"]] == ["winner", "default"]
    keys = {(ranking["data.md5"], ranking["split.sha256"], ranking["metric"]) for ranking in compared["rankings"]}
    assert len(keys) == len(compared["rankings"]) == 4


def test_a_lower_loss_is_better_and_a_difference_says_so(compared: Any) -> None:
    (loss,) = rankings_of(compared, "grouped", "log_loss")
    best, other = loss["runs"]
    assert best["score"] < other["score"]
    assert (best["verdict"], other["verdict"]) == ("best", "worse")
    assert other["difference"] == pytest.approx(best["score"] - other["score"])
    assert other["high"] < 0


def test_each_row_is_paired_with_the_best_on_the_same_folds(store: Store, compared: Any) -> None:
    ranking = rankings_of(compared, "grouped", "accuracy")[0]
    best, *others = ranking["runs"]
    assert best["rank"] == 1
    assert best["score"] == max(row["score"] for row in ranking["runs"] if row["rank"])
    majority = next(row for row in others if row["run"].startswith("majority"))
    tags = store.client.get_run(majority["id"]).data.tags
    expected = corrected_t_test(
        store.fold_scores(majority["id"]),
        store.fold_scores(best["id"]),
        direction="maximize",
        test_to_train=float(tags["split.test_to_train"]),
        alpha=0.05,
    )
    assert majority["verdict"] == expected.verdict == "worse"
    assert [majority[key] for key in ("difference", "low", "high")] == pytest.approx(
        [expected.difference, expected.low, expected.high]
    )


def test_equal_scores_share_a_rank(compared: Any) -> None:
    # The first trial of the study and a copy have the scores of the first run; the second trial is slightly better.
    rows = rankings_of(compared, "grouped", "accuracy")[0]["runs"][:5]
    assert [row["run"].replace("logreg scaled grouped", "logreg") for row in rows[:4]] == [
        *("trial 1: logreg", "logreg", "trial 0: logreg", "logreg")
    ]
    assert [row["rank"] for row in rows] == [1, 2, 2, 2, 5]
    assert [row["verdict"] for row in rows] == ["best", *["no difference shown"] * 3, "worse"]
    assert len({row["difference"] for row in rows[1:4]}) == 1


def test_a_pruned_trial_comes_last_without_rank_or_verdict(compared: Any) -> None:
    rows = rankings_of(compared, "grouped", "accuracy")[0]["runs"][5:]
    assert {row["run"] for row in rows} == {f"trial {number}: logreg scaled grouped" for number in (2, 3)}
    assert {(row["rank"], row["verdict"], row["low"], row["spread"]) for row in rows} == {
        (None, "pruned, 1 of 5 folds", None, None)
    }


def test_what_cannot_be_ranked_is_counted(compared: Any) -> None:
    assert compared["left_out"] == {
        "failed": 1,
        "recorded before splits were fingerprinted": 1,
        "without a figure of the deciding metric": 1,
    }


def test_csv_is_only_a_table_and_what_is_left_out_is_logged(store: Store, compared: Any) -> None:
    done = store.compare_command("format=csv")
    assert "Left out: " in done.stderr
    assert "1 failed" in done.stderr
    table = pd.read_csv(io.StringIO(done.stdout))
    assert list(table["id"]) == [row["id"] for ranking in compared["rankings"] for row in ranking["runs"]]
    assert {"cv/log_loss", "cv/f1_macro_std", "holdout", "fit_seconds", "model_bytes", "verdict"} <= set(table)
    assert set(table["data.md5"]) == {"3e584720e6718d28509f86f05b7885a1"}
    assert table["score"].notna().all()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_the_terminal(store: Store, compared: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output = store.compare()
    assert max(map(len, output.splitlines())) <= width
    best = rankings_of(compared, "grouped", "accuracy")[0]["runs"][0]
    lines = output.splitlines()
    assert any(re.match(rf"1 +{best['id'][:8]} +{re.escape(best['run'][:20])}.*± .* best", line) for line in lines)
    minus = "\N{MINUS SIGN}0"
    assert any(re.search(rf"{minus}\.\d{{4}} \({minus}\.\d{{4}} to {minus}\.\d{{4}}\)", line) for line in lines)
    flat = " ".join(output.split())
    assert "Each interval is at 95 % by itself" in flat
    assert "The best is the best of 7" in flat
    assert "1 recorded before splits were fingerprinted" in flat
    assert "…" not in re.sub(r"[\w: ]{23}…", "", output)


def test_runs_are_selected_by_id_alias_version_or_study(store: Store) -> None:
    champion, majority = (store.earliest(f"{model} scaled grouped").info.run_id for model in ("logreg", "majority"))
    selected = store.compare_json(f"runs=[champion,1,{majority},tuned]", "limit=null")
    ids = [row["id"] for ranking in selected["rankings"] for row in ranking["runs"]]
    assert ids.count(champion) == 1
    assert majority in ids
    # The other six are the study's four trials, the run of its best one, and the run of the model untuned.
    assert len(ids) == 8


def test_the_limit_holds_for_each_ranking(store: Store) -> None:
    compared = store.compare_json("runs=tuned", "limit=1")
    assert [len(ranking["runs"]) for ranking in compared["rankings"]] == [1, 1]
    assert [ranking["ranked"] for ranking in compared["rankings"]] == [4, 2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runs=cultivar-cultivat"], "did you mean cultivar-cultivar?"),
        (["runs=[champoin,tunde]"], "2 faults:"),
        (["runs=champoin"], "did you mean champion?"),
        (["lineage=champoin"], "did you mean champion?"),
        (["format=cvs"], "did you mean csv?"),
        (["format=cvs", "alpha=2", "limit=0"], "3 faults:"),
        (["lineage=1", "format=html"], "a lineage is printed as a tree"),
        (["lineage=a", "runs=b"], "exclude each other"),
        (["tracking=off"], "tracking=off records none"),
        (["rnus=a"], "did you mean runs?"),
    ],
)
def test_a_mistake_is_refused_with_one_message(store: Store, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        store.compare(*overrides)


def test_of_several_experiments_one_must_be_chosen(store: Store) -> None:
    other = store.client.create_experiment("red-good")
    created = store.client.create_run(other)
    try:
        with pytest.raises(UserError, match="give runs=, one of cultivar-cultivar, red-good"):
            store.compare()
    finally:
        store.client.delete_run(created.info.run_id)


@pytest.fixture(scope="module")
def page(store: Store) -> Path:
    output = store.compare("format=html", f"hydra.run.dir={store.folder}/out")
    path = store.folder / "out" / "compare.html"
    assert output == f"Open the page: {path}\n"
    return path


def test_the_page_is_self_contained_and_accessible(page: Path) -> None:
    html = page.read_text()
    check_self_contained(html)
    check_accessible(Page(html))


def test_the_page_has_a_section_for_all_that_was_recorded(store: Store, page: Path, compared: Any) -> None:
    html = page.read_text()
    parsed = Page(html)
    sections = set(parsed.texts_of("h3"))
    assert sections == {"Runs", "Verdicts", "Folds", "Optimization", "Predictions", "Importances", "Parameters"}
    assert len(parsed.texts_of("h2")) == len(compared["rankings"])
    assert all(row["id"] in html for ranking in compared["rankings"] for row in ranking["runs"])
    # The confusion matrix has the counts of the best run's recorded predictions.
    best = next(row for row in rankings_of(compared, "grouped", "accuracy")[0]["runs"] if row["model_bytes"])
    predictions = pd.read_parquet(store.client.download_artifacts(best["id"], "predictions.parquet"))
    predictions = predictions[predictions["fold"] >= 0]
    is_right = predictions["true"] == predictions["predicted"]
    assert set(map(str, is_right.groupby(predictions["true"]).sum())) <= set(parsed.texts_of("td"))


@pytest.mark.journey
def test_a_phone_shows_the_whole_width_and_every_image(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    # A script in the page reports whether anything is wider than a phone, and how many images were not decoded.
    probe = page.read_text().replace("default-src 'none'", "default-src 'none'; frame-src file:")
    script = (
        "<script>addEventListener('load', () => { const broken = [...document.images].filter(i => !i.naturalWidth);"
        "document.title = [document.documentElement.scrollWidth <= innerWidth, broken.length, document.images.length]"
        ".join(' '); })</script></body>"
    )
    copy = tmp_path / "page.html"
    copy.write_text(probe.replace("</body>", script))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [browser, *flags, "--window-size=500,900", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    fits, broken, images = title[1].split()
    assert (fits, broken) == ("true", "0")
    assert int(images) >= 5


def test_the_lineage_leads_from_the_alias_to_the_bytes(store: Store) -> None:
    recorded = store.earliest("logreg scaled grouped")
    output = store.compare("lineage=champion")
    lines = [line.strip(" │├└─") for line in output.splitlines()]
    tags = recorded.data.tags
    for position, beginning in enumerate(
        [
            "alias champion of wine",
            f"version 1: model SHA-256 {'a' * 64}",
            f"run {recorded.info.run_id} (logreg scaled grouped of {EXPERIMENT}, ",
            f"config SHA-256 {tags['config.sha256']}, seed {recorded.data.params['seed']}",
            "config.yaml of the run is the one that was recorded",
            f"split grouped SHA-256 {tags['split.sha256']}",
            f"code commit {tags['git.commit']}",
            f"lock SHA-256 {tags['lock.sha256']}",
            f"Python {tags['python.version']}; ",
        ]
    ):
        assert lines[position].startswith(beginning)
    source = pin.read("data/raw/wine.data.dvc")
    assert lines[-3:] == [
        f"data md5 {source.md5}",
        "pin data/raw/wine.data.dvc: this tree still pins these bytes",
        f"from {source.source_url}",
    ]
    assert output.count(f"by {tags['mlflow.user']}") == 1


def test_a_lineage_as_json_goes_through_the_run_that_was_promoted(store: Store) -> None:
    client, source = store.client, store.earliest("logreg scaled grouped").info.run_id
    promoted = store.earliest("majority scaled grouped").info.run_id
    client.set_tag(promoted, "source.run_id", source)
    recorded_md5 = client.get_run(promoted).data.tags["data.md5"]
    client.set_tag(promoted, "data.md5", "0" * 32)
    try:
        origin = store.compare_json(f"lineage={promoted}")
    finally:
        client.set_tag(promoted, "data.md5", recorded_md5)
        client.delete_tag(promoted, "source.run_id")
    assert (origin["alias"], origin["version"]) == (None, None)
    assert origin["promoted_from"]["id"] == source
    (data,) = origin["data"]
    assert (data["md5"], data["md5_here"], data["pinned_here"]) == ("0" * 32, recorded_md5, False)
    assert origin["machine"]["libraries"]["mlflow"] == mlflow.__version__


def test_mlflow_has_a_note_for_a_run_a_trial_and_a_study(store: Store) -> None:
    plain, trial, study = (
        store.earliest(name).data for name in ("logreg scaled grouped", "trial 2: logreg scaled grouped", "tuned")
    )
    note = plain.tags["mlflow.note.content"]
    assert note.startswith("**logreg** on scaled features of cultivar, to predict cultivar; split grouped.")
    assert f"accuracy **{plain.metrics['cv/accuracy']:.4f} ± " in note
    assert f"**{plain.metrics['holdout/accuracy']:.4f}** on the holdout" in note
    assert "** over 1 of 5 folds; the holdout was not scored" in trial.tags["mlflow.note.content"]
    assert "Study **tuned**: 4 trials (2 complete, 2 pruned)" in study.tags["mlflow.note.content"]
    assert f"trial 1, **{study.metrics['best_value']:.4f}**" in study.tags["mlflow.note.content"]
    for key in ("mlflow.user", "mlflow.source.name"):
        assert study.tags[key] == trial.tags[key] == plain.tags[key]
    assert re.fullmatch("[0-9a-f]{40}", study.tags["mlflow.source.git.commit"])
