"""`python -m wineexp.compare`, from recorded runs to rankings, the page and the lineage."""

import io
import json
import math
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.conftest import run
from tests.pages import Page
from tests.pages import fetched_addresses as addresses
from wineexp.data import pin
from wineexp.evaluation.comparison import corrected_t_test

EXPERIMENT = "cultivar-cultivar"
LOSS = ("target.metric=log_loss", "target.direction=minimize")
# A study of four trials, of which two are hopeless and pruned, and whose winner is run once more.
SWEEP = (
    *("model=logreg", "model.C=1,0.0000001", "hydra/sweeper/sampler=grid", "hydra.sweeper.study_name=tuned"),
    *("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"),
)


# With what the fixture trains, a busy machine needs longer than the usual limit.
pytestmark = pytest.mark.timeout(600)


class Store:
    """A tracking store with runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")

    def train(self, *arguments: str) -> None:
        done = run(self.folder, "train", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def compare(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder, "compare", *arguments, **more)

    def told(self, *arguments: str) -> Any:
        done = self.compare(*arguments, "format=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def runs(self) -> list[Any]:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        assert found is not None
        return list(self.client.search_runs([found.experiment_id]))

    def named(self, name: str) -> Any:
        """The earliest run of this name."""
        return [each for each in self.runs if each.info.run_name == name][-1]

    def folds(self, run_id: str, metric: str = "accuracy") -> np.ndarray:
        history = self.client.get_metric_history(run_id, f"fold/{metric}")
        return np.array([point.value for point in sorted(history, key=lambda point: point.step)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs of two models on three tasks, a study with a pruned trial, and runs that cannot be ranked."""
    store = Store(tmp_path_factory.mktemp("compare"))
    store.train("model=logreg")
    # Four runs, and two, for the start of one process each.
    store.train("-m", "hydra/sweeper=basic", "model=logreg,majority", "split=grouped,stratified")
    store.train("-m", "hydra/sweeper=basic", "model=majority,logreg", *LOSS)
    store.train("-m", *SWEEP)
    client, first = store.client, store.named("logreg scaled grouped")
    tags = {key: value for key, value in first.data.tags.items() if not key.startswith("mlflow.")}
    old = {key: value for key, value in tags.items() if key != "split.sha256"}
    for value, facts, status in [(0.99, old, "FINISHED"), (math.nan, tags, "FINISHED"), (0.99, tags, "FAILED")]:
        made = client.create_run(first.info.experiment_id, tags=facts, run_name="left out")
        for key, text in first.data.params.items():
            client.log_param(made.info.run_id, key, text)
        client.log_metric(made.info.run_id, "cv/accuracy", value)
        client.set_terminated(made.info.run_id, status)
    client.create_registered_model("wine")
    labels = {"model.sha256": "a" * 64, "model.files": json.dumps({"model.skops": "b" * 64})}
    files = store.folder.as_uri()
    version = client.create_model_version("wine", files, first.info.run_id, labels)
    client.set_registered_model_alias("wine", "champion", version.version)
    return store


@pytest.fixture(scope="module")
def told(store: Store) -> Any:
    return store.told()


def of(told: Any, split: str, metric: str) -> list[Any]:
    """The rankings of a split and a metric."""
    return [each for each in told["rankings"] if (each["split"], each["metric"]) == (split, metric)]


def test_other_folds_and_other_targets_have_rankings_of_their_own(told: Any) -> None:
    (stratified,) = of(told, "stratified", "accuracy")
    assert [row["run"] for row in stratified["runs"]] == ["logreg scaled stratified", "majority scaled stratified"]
    (loss,) = of(told, "grouped", "log_loss")
    assert [row["run"] for row in loss["runs"]] == ["logreg scaled grouped", "majority scaled grouped"]
    # The winner of the study, run again under a fresh seed, is scored on other folds.
    first, again = of(told, "grouped", "accuracy")
    assert first["split.sha256"] != again["split.sha256"]
    assert len(again["runs"]) == 1
    shared = {(each["data.md5"], each["split.sha256"], each["metric"]) for each in told["rankings"]}
    assert len(shared) == len(told["rankings"]) == 4


def test_a_lower_loss_is_better_and_a_difference_says_so(told: Any) -> None:
    (loss,) = of(told, "grouped", "log_loss")
    best, other = loss["runs"]
    assert best["score"] < other["score"]
    assert (best["verdict"], other["verdict"]) == ("best", "worse")
    assert other["difference"] == pytest.approx(best["score"] - other["score"])
    assert other["high"] < 0


def test_each_row_is_paired_with_the_best_on_the_same_folds(store: Store, told: Any) -> None:
    ranking = of(told, "grouped", "accuracy")[0]
    best, *others = ranking["runs"]
    assert best["rank"] == 1
    assert best["score"] == max(row["score"] for row in ranking["runs"] if row["rank"])
    majority = next(row for row in others if row["run"].startswith("majority"))
    tags = store.client.get_run(majority["id"]).data.tags
    expected = corrected_t_test(
        store.folds(majority["id"]),
        store.folds(best["id"]),
        direction="maximize",
        test_to_train=float(tags["split.test_to_train"]),
        alpha=0.05,
    )
    assert majority["verdict"] == expected.verdict == "worse"
    assert [majority[key] for key in ("difference", "low", "high")] == pytest.approx(
        [expected.difference, expected.low, expected.high]
    )


def test_equal_figures_share_a_rank(told: Any) -> None:
    # Better by a hair, and then the plain run, the same one in a grid, and as the study's first trial.
    rows = of(told, "grouped", "accuracy")[0]["runs"][:5]
    assert [row["run"].replace("logreg scaled grouped", "logreg") for row in rows[:4]] == [
        *("trial 1: logreg", "logreg", "logreg", "trial 0: logreg")
    ]
    assert [row["rank"] for row in rows] == [1, 2, 2, 2, 5]
    assert [row["verdict"] for row in rows] == ["best", *["no difference shown"] * 3, "worse"]
    assert len({row["difference"] for row in rows[1:4]}) == 1


def test_a_pruned_trial_comes_last_without_rank_or_verdict(told: Any) -> None:
    rows = of(told, "grouped", "accuracy")[0]["runs"][5:]
    assert {row["run"] for row in rows} == {f"trial {number}: logreg scaled grouped" for number in (2, 3)}
    assert {(row["rank"], row["verdict"], row["low"], row["spread"]) for row in rows} == {
        (None, "pruned, 1 of 5 folds", None, None)
    }


def test_what_cannot_be_ranked_is_counted(store: Store, told: Any) -> None:
    assert told["left_out"] == {
        "failed": 1,
        "recorded before splits were fingerprinted": 1,
        "without a figure of the deciding metric": 1,
    }
    done = store.compare("format=csv")
    assert "Left out: " in done.stderr
    assert "1 failed" in done.stderr


def test_csv_is_nothing_but_a_table(store: Store, told: Any) -> None:
    done = store.compare("format=csv")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.StringIO(done.stdout))
    assert list(table["id"]) == [row["id"] for ranking in told["rankings"] for row in ranking["runs"]]
    assert {"cv/log_loss", "cv/f1_macro_std", "holdout", "fit_seconds", "model_bytes", "verdict"} <= set(table)
    assert set(table["data.md5"]) == {"3e584720e6718d28509f86f05b7885a1"}
    assert table["score"].notna().all()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_keeps_to_the_terminal(store: Store, told: Any, width: int) -> None:
    done = store.compare(COLUMNS=str(width))
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= width
    best = of(told, "grouped", "accuracy")[0]["runs"][0]
    lines = done.stdout.splitlines()
    assert any(re.match(rf"1 +{best['id'][:8]} +{re.escape(best['run'][:20])}.*± .* best", line) for line in lines)
    minus = "\N{MINUS SIGN}0"
    assert any(re.search(rf"{minus}\.\d{{4}} \({minus}\.\d{{4}} to {minus}\.\d{{4}}\)", line) for line in lines)
    flat = " ".join(done.stdout.split())
    assert "Each interval is at 95 % by itself" in flat
    assert "The best is the best of 7" in flat
    assert "1 recorded before splits were fingerprinted" in flat
    assert "…" not in re.sub(r"[\w: ]{23}…", "", done.stdout)


def test_runs_are_named_by_whatever_names_them(store: Store) -> None:
    champion, majority = (store.named(f"{model} scaled grouped").info.run_id for model in ("logreg", "majority"))
    told = store.told(f"runs=[champion,1,{majority},tuned]", "limit=null")
    found = [row["id"] for ranking in told["rankings"] for row in ranking["runs"]]
    assert found.count(champion) == 1
    assert majority in found
    # With the study's four trials and its winner, run again.
    assert len(found) == 7


def test_no_more_rows_than_asked_for(store: Store) -> None:
    told = store.told("runs=tuned", "limit=1")
    assert [len(ranking["runs"]) for ranking in told["rankings"]] == [1, 1]
    assert [ranking["ranked"] for ranking in told["rankings"]] == [4, 1]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
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
def test_a_mistake_is_told_in_one_message(store: Store, arguments: list[str], wanted: str) -> None:
    done = store.compare(*arguments)
    assert done.returncode == 1
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_of_several_experiments_one_must_be_chosen(store: Store) -> None:
    other = store.client.create_experiment("red-good")
    made = store.client.create_run(other)
    try:
        done = store.compare()
        assert done.returncode == 1
        assert "give runs=, one of cultivar-cultivar, red-good" in done.stderr
    finally:
        store.client.delete_run(made.info.run_id)


@pytest.fixture(scope="module")
def page(store: Store) -> Path:
    done = store.compare("format=html", f"hydra.run.dir={store.folder}/out")
    assert done.returncode == 0, done.stderr
    path = store.folder / "out" / "compare.html"
    assert done.stdout == f"Open the page: {path}\n"
    return path


def test_the_page_needs_no_other_file_and_is_sound(page: Path) -> None:
    html = page.read_text()
    assert [address for address in addresses(html) if not address.startswith(("data:", "#"))] == []
    told = Page(html)
    (policy,) = [meta["content"] for meta in told.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    headings = [tag for tag, _ in told.tags if re.fullmatch(r"h\d", tag)]
    assert headings.count("h1") == 1
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(headings))
    ids = [attributes["id"] for _, attributes in told.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in told.all("a")} <= set(ids)
    assert all("tabindex" in attributes for _, attributes in told.tags if attributes.get("role") == "region")


def test_the_page_shows_what_there_is_to_compare(store: Store, page: Path, told: Any) -> None:
    html = page.read_text()
    shown = Page(html)
    parts = {text.strip() for tag, text in shown.texts if tag == "h3"}
    assert {"Runs", "Verdicts", "Folds", "Predictions", "Importances", "Parameters"} <= parts
    assert len([tag for tag, text in shown.texts if tag == "h2" and text.strip()]) == len(told["rankings"])
    assert all(row["id"] in html for ranking in told["rankings"] for row in ranking["runs"])
    images = shown.all("img")
    assert all(image["alt"] for image in images)
    # The leader's answers, counted from what it recorded.
    best = next(row for row in of(told, "grouped", "accuracy")[0]["runs"] if row["model_bytes"])
    answers = pd.read_parquet(store.client.download_artifacts(best["id"], "predictions.parquet"))
    answers = answers[answers["fold"] >= 0]
    right = [str(number) for number in (answers["true"] == answers["predicted"]).groupby(answers["true"]).sum()]
    assert set(right) <= {text.strip() for tag, text in shown.texts if tag == "td"}


def test_a_browser_shows_the_page(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    # The page measures itself: nothing may be wider than a phone, and every picture must have been decoded.
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
    recorded = store.named("logreg scaled grouped")
    done = store.compare("lineage=champion")
    assert done.returncode == 0, done.stderr
    lines = [line.strip(" │├└─") for line in done.stdout.splitlines()]
    tags = recorded.data.tags
    for place, beginning in enumerate(
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
        assert lines[place].startswith(beginning)
    source = pin.read("data/raw/wine.data.dvc")
    assert lines[-3:] == [
        f"data md5 {source.md5}",
        "pin data/raw/wine.data.dvc: this tree still pins these bytes",
        f"from {source.source_url}",
    ]
    assert done.stdout.count(f"by {tags['mlflow.user']}") == 1


def test_a_lineage_as_json_goes_through_the_run_that_was_promoted(store: Store) -> None:
    client, run_of = store.client, store.named("logreg scaled grouped").info.run_id
    promoted = store.named("majority scaled grouped").info.run_id
    client.set_tag(promoted, "source.run_id", run_of)
    told_md5 = client.get_run(promoted).data.tags["data.md5"]
    client.set_tag(promoted, "data.md5", "0" * 32)
    try:
        origin = store.told(f"lineage={promoted}")
    finally:
        client.set_tag(promoted, "data.md5", told_md5)
        client.delete_tag(promoted, "source.run_id")
    assert (origin["alias"], origin["version"]) == (None, None)
    assert origin["promoted_from"]["id"] == run_of
    (data,) = origin["data"]
    assert (data["md5"], data["md5_here"], data["pinned_here"]) == ("0" * 32, told_md5, False)
    assert origin["machine"]["libraries"]["mlflow"] == mlflow.__version__


def test_mlflow_says_what_a_run_a_trial_and_a_study_are(store: Store) -> None:
    plain, trial, study = (
        store.named(name).data for name in ("logreg scaled grouped", "trial 2: logreg scaled grouped", "tuned")
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
