"""`python -m wineexp.explore`, from the command line to the page that a browser would show."""

import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from omegaconf import OmegaConf

from tests.conftest import new_database, run
from tests.pages import Page, check_accessible, check_self_contained, svg
from wineexp import UserError, compose, explore
from wineexp.core.paths import ROOT
from wineexp.data.dataset import Dataset
from wineexp.data.pin import read
from wineexp.data.target import Target
from wineexp.data.task import Task, make_task
from wineexp.reports import data_charts, eda_page, style

SECTIONS = ["Overview", "Classes", "Separation", "Outliers", "Duplicates", "Columns"]


def without_table_report(html: str) -> Page:
    """The page up to the report of skrub, whose markup is not the project's."""
    return Page(html[: html.index("skrub's TableReport")])


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder, the output and the page of `python -m wineexp.explore`."""
    folder = tmp_path_factory.mktemp("explore")
    new_database(folder)
    done = run(folder, "explore", f"hydra.run.dir={folder}/out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout, (folder / "out" / "explore.html").read_text()


def test_the_same_data_give_the_same_page_to_the_byte(explored: tuple[Path, str, str]) -> None:
    folder, _, html = explored
    result = explore(compose("tracking=off", f"hydra.run.dir={folder}/again", program="explore"))
    assert result.page == folder / "again" / "explore.html"
    assert result.page.read_text() == html


def test_the_output_has_the_summary_and_the_path_of_the_page(explored: tuple[Path, str, str]) -> None:
    folder, output, html = explored
    summary = output.splitlines()[0]
    assert summary.startswith("178 rows with 13 features; none of 2,492 values is missing. No row repeats another.")
    assert "The most frequent of 3 classes is 2: always predicting it is 40.1" in summary
    assert "separate the classes best are flavanoids" in summary
    assert "most correlated features are total phenols and flavanoids (rank correlation +0.8" in summary
    assert " ".join(summary.split()) in Page(html).text
    assert str(folder / "out" / "explore.html") in output


def test_the_page_is_an_artifact_of_its_run(explored: tuple[Path, str, str]) -> None:
    folder, output, html = explored
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("cultivar-cultivar")
    assert experiment is not None
    (recorded,) = client.search_runs([experiment.experiment_id])
    assert (recorded.info.run_name, recorded.info.status) == ("explore", "FINISHED")
    assert recorded.info.run_id in output
    assert recorded.data.params["data"] == "cultivar"
    assert recorded.data.params["holdout.size"] == "0.2"
    (data,) = recorded.inputs.dataset_inputs
    assert data.dataset.digest == "3e584720e6718d28509f86f05b7885a1"
    assert Path(client.download_artifacts(recorded.info.run_id, "explore.html")).read_text() == html


def test_the_page_is_self_contained_and_accessible(explored: tuple[Path, str, str]) -> None:
    _, _, html = explored
    check_self_contained(html)
    page = without_table_report(html)
    check_accessible(page)
    assert page.texts_of("h2") == SECTIONS


def test_each_feature_has_a_chart_and_each_chart_a_description(explored: tuple[Path, str, str]) -> None:
    _, _, html = explored
    images = without_table_report(html).all("img")
    assert len(images) == len({image["src"] for image in images}) == 13
    assert any(image["alt"].startswith("Boxes of ash in each class of cultivar; medians: 1: ") for image in images)


def test_a_meaning_stands_beside_the_name_of_its_feature(tmp_path: Path) -> None:
    meaning = "+data.columns.alcohol.meaning='share, by volume'"
    page = explore(compose("tracking=off", meaning, f"hydra.run.dir={tmp_path}", program="explore")).page.read_text()
    assert "<figcaption>alcohol: share, by volume</figcaption>" in page


def test_charts_have_the_colours_of_both_themes() -> None:
    y = pd.Series([0] * 12 + [1] * 2)
    chart = svg(data_charts.by_class(pd.Series(range(14), dtype=float), y, y.unique(), "g/L"))
    assert "prefers-color-scheme:dark" in chart
    assert "var(--wine)" in chart
    assert not set(style.CSS_VARIABLES) & set(re.findall(r"#\d{6}\b", chart))


def test_the_page_leaves_out_the_rows_that_training_holds_out(explored: tuple[Path, str, str]) -> None:
    _, _, html = explored
    of_explore, of_train = (OmegaConf.load(ROOT / "conf" / f"{name}.yaml").holdout for name in ("explore", "train"))
    assert of_explore == of_train
    assert "The holdout is left out. 36 rows are held out" in Page(html).text
    # The report of skrub counts the rows that it was given.
    assert re.search(r"<strong>\s*142\s*</strong>\s*rows", html)


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_all_wine_quality_with_its_text_column(tmp_path: Path) -> None:
    # Half of the rows are held out, since their number proves nothing and skrub's charts take time.
    overrides = ["data=quality", "target=good", "holdout.size=0.5", "tracking=off", f"hydra.run.dir={tmp_path}"]
    result = explore(compose(*overrides, program="explore"))
    assert result.run_id is None
    assert result.summary.startswith("6,497 rows with 12 features")
    assert "1,177 rows repeat an earlier one exactly" in result.summary
    html = result.page.read_text()
    page = without_table_report(html)
    assert "colour=white" in page.texts_of("th")
    assert "Bars: share of each colour in each class of good" in {image["alt"] for image in page.all("img")}
    assert "In five plain folds, " in page.text
    for colour in ("red", "white"):
        assert read(f"data/raw/winequality-{colour}.csv.dvc").md5 in page.text
    check_self_contained(html)


def findings_of(y: list[float], **features: list[float]) -> tuple[Task, eda_page.Findings]:
    """A task of numbers of which none is held out, and what is found out about it."""
    frame = pd.DataFrame({**features, "y": y}, dtype=float)
    data = Dataset(frame, tuple(features), dict.fromkeys(features, ""), ())
    target = Target("y", None, None, False, "root_mean_squared_error", "minimize", kind="regression")
    task = make_task(data, target, None, {"size": 0, "seed": 0})
    return task, eda_page.find(task)


def test_bands_of_large_numbers_are_named_by_all_of_their_digits() -> None:
    task, found = findings_of([*range(10_000_000, 10_000_008)], x=[*range(8)])
    assert found.classes.tolist()[:2] == ["up to 10,000,001", "over 10,000,001 up to 10,000,003"]
    assert "y runs from 10,000,000 to 10,000,007" in eda_page.summary(task, found)
    _, found = findings_of([1e15 + number for number in range(8)], x=[*range(8)])
    assert len(set(found.classes)) == 4


def test_a_frequent_minimum_is_told_from_the_rest_by_the_feature_that_tells_it() -> None:
    y = [0.0] * 95 + [1, 2, 3, 4, 5]
    task, found = findings_of(y, x=y)
    assert found.classes[0] == "exactly 0"
    assert found.separation["x"] == pytest.approx(1, abs=1e-3)
    summary = eda_page.summary(task, found)
    assert "The feature that separates low from high values best is x" in summary
    assert "most correlated" not in summary
    page = eda_page.render(task, found, data="own", target="y")
    assert 'alt="Boxes of x in each band of y' in page
    assert 'aria-label="Rows of each band"' in page


def test_no_feature_is_named_where_none_separates() -> None:
    task, found = findings_of([*range(8)], x=[1, 0, 0, 1, 1, 0, 0, 1])
    assert "No feature by itself separates low from high values." in eda_page.summary(task, found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["data=rde"], "did you mean red?"), (["holdot.size=0.1"], "did you mean holdout?")],
)
def test_a_mistake_is_refused_with_a_suggestion(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compose(*overrides, program="explore")
