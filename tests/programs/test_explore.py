"""`python -m wineexp.explore`, from the command line to the page that a browser would show."""

import base64
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from omegaconf import OmegaConf

from tests.conftest import Command, run
from wineexp.core.paths import ROOT
from wineexp.data import eda
from wineexp.reports import style

# Attributes whose address a browser fetches by itself; that of a link is fetched when a reader follows it.
FETCHED = {"src", "srcset", "data", "poster", "background", "xlink:href", "action", "formaction"}
SECTIONS = [
    "Overview",
    "Classes",
    "Distributions",
    "Separators",
    "Correlations",
    "Missing values",
    "Outliers",
    "Duplicates",
    "Rows",
]


class Page(HTMLParser):
    """What a test asks of a page: its tags with their attributes, its headings, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.inside, data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("style", "script")).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def own(html: str) -> Page:
    """The page up to skrub's report, which is skrub's to answer for."""
    return Page(html[: html.index("skrub's TableReport")])


def addresses(html: str) -> list[str]:
    """All that a browser would fetch to show the page, images looked into."""
    page = Page(html)
    found = [value for _, attributes in page.tags for name, value in attributes.items() if name in FETCHED]
    found += [attributes["href"] for tag, attributes in page.tags if tag not in ("a", "area") and "href" in attributes]
    found += re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']?([^\"';]+)", html)
    flat = ["".join(address) if isinstance(address, tuple) else address for address in found]
    images = [svg(address) for address in flat if address.startswith("data:image/svg+xml;base64,")]
    return flat + [address for image in images for address in addresses(image)]


def svg(uri: str) -> str:
    return base64.b64decode(uri.partition(",")[2]).decode()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder, the output and the page of `python -m wineexp.explore`."""
    folder = tmp_path_factory.mktemp("explore")
    done = run(folder, "explore", f"hydra.run.dir={folder}/out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout, (folder / "out" / "explore.html").read_text()


def test_the_same_data_give_the_same_page_to_the_byte(first: tuple[Path, str, str]) -> None:
    folder, _, html = first
    done = run(folder, "explore", "tracking=off", f"hydra.run.dir={folder}/again")
    assert done.returncode == 0, done.stderr
    assert (folder / "again" / "explore.html").read_text() == html


def test_the_output_tells_the_findings_and_where_the_page_is(first: tuple[Path, str, str]) -> None:
    folder, output, html = first
    told = output.splitlines()[0]
    assert told.startswith("178 rows with 13 features; none of 2,492 values is missing. No row repeats another.")
    assert "The most frequent of 3 classes is 2: always answering it is 40.1" in told
    assert "apart best are flavanoids" in told
    assert "correlated features are total phenols and flavanoids" in told
    assert " ".join(told.split()) in Page(html).text
    assert str(folder / "out" / "explore.html") in output


def test_the_page_is_an_artifact_of_its_run(first: tuple[Path, str, str]) -> None:
    folder, output, html = first
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("cultivar-cultivar")
    assert experiment is not None
    (done,) = client.search_runs([experiment.experiment_id])
    assert (done.info.run_name, done.info.status) == ("explore", "FINISHED")
    assert done.info.run_id in output
    assert done.data.params["data"] == "cultivar"
    assert done.data.params["holdout.size"] == "0.2"
    (recorded,) = done.inputs.dataset_inputs
    assert recorded.dataset.digest == "3e584720e6718d28509f86f05b7885a1"
    assert Path(client.download_artifacts(done.info.run_id, "explore.html")).read_text() == html


def test_the_page_needs_no_other_file(first: tuple[Path, str, str]) -> None:
    _, _, html = first
    outside = [address for address in addresses(html) if not address.startswith(("data:", "#"))]
    assert outside == []
    # What a script might ask for, the browser refuses.
    (policy,) = [meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


@pytest.mark.parametrize(
    "outside",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="x.css">',
        "<style>@import 'x.css';</style>",
        "<style>@font-face { src: url(//fonts.example/x) }</style>",
    ],
)
def test_an_address_outside_the_page_would_be_found(outside: str) -> None:
    assert any(not address.startswith(("data:", "#")) for address in addresses(outside))


def test_the_page_is_sound(first: tuple[Path, str, str]) -> None:
    _, _, html = first
    page = own(html)
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings.count("h1") == 1
    assert headings[0] == "h1"
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(headings))
    assert [text for tag, text in page.texts if tag == "h2" and text.strip()] == SECTIONS
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")} <= set(ids)
    assert all("tabindex" in attributes for _, attributes in page.tags if attributes.get("role") == "region")
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_each_feature_has_its_two_charts_and_each_chart_says_what_it_shows(first: tuple[Path, str, str]) -> None:
    _, _, html = first
    images = own(html).all("img")
    assert len(images) == 2 * 13
    assert len({image["src"] for image in images}) == len(images)
    assert "Histogram of proline: from 278 to 1,515, median 675" in {image["alt"] for image in images}
    assert "Boxes of ash in each class of cultivar; medians: 1: " in " ".join(image["alt"] for image in images)
    assert all(image["alt"] for image in images)


def test_charts_follow_the_reader_into_the_dark() -> None:
    drawn = svg(style.distribution(pd.Series([1.0, 2.0, 2.0, 3.0]), "g/L"))
    assert "prefers-color-scheme:dark" in drawn
    assert "var(--wine)" in drawn
    assert not set(style.NAMES) & set(re.findall(r"#\d{6}\b", drawn))


def test_the_page_holds_out_what_training_holds_out(first: tuple[Path, str, str]) -> None:
    _, _, html = first
    explored, trained = (OmegaConf.load(ROOT / "conf" / f"{name}.yaml").holdout for name in ("explore", "train"))
    assert explored == trained
    assert "The holdout is left out. 36 rows are set aside" in Page(html).text
    # skrub's table counts what it was given.
    assert re.search(r"<strong>\s*142\s*</strong>\s*rows", html)


@pytest.mark.usefixtures("wine_quality")
def test_all_wine_quality_with_its_text_column(command: Command, tmp_path: Path) -> None:
    done = command("explore", "data=quality", "target=good", "tracking=off", f"hydra.run.dir={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6,497 rows with 12 features")
    assert "1,177 rows repeat an earlier one exactly" in done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert not (tmp_path / "mlflow.db").exists()
    html = (tmp_path / "out" / "explore.html").read_text()
    page = own(html)
    assert {"colour=white", "target: good"} <= {text.strip() for tag, text in page.texts if tag in ("th", "span")}
    assert "Bars: share of each colour in each class of good" in {image["alt"] for image in page.all("img")}
    for md5 in ("2daeecee174368f8a33b82c8cccae3a5", "5d9ff0f7f716dace19e3ab4578775fd7"):
        assert md5 in page.text
    assert [address for address in addresses(html) if not address.startswith(("data:", "#"))] == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data=rde"], "did you mean red?"),
        (["holdot.size=0.1"], "did you mean holdout?"),
    ],
)
def test_a_mistake_is_told_in_one_message(command: Command, overrides: list[str], told: str) -> None:
    done = command("explore", *overrides, "tracking=off")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


TABLE = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0, 4.0, 100.0, 4.0], "b": [5.0, 4.0, 3.0, 2.0, 1.0, 2.0], "c": ["x", "x", "x", "y", "y", "y"]}
)


def test_outliers_lie_beyond_tukeys_fences() -> None:
    table = eda.outliers(TABLE)
    # Quartiles of a: 2.25 and 4.
    assert table.loc["a", ["low", "high", "below", "above"]].tolist() == [-0.375, 6.625, 0, 1]
    assert table.loc["b", "share"] == 0
    assert eda.rows_with_outliers(TABLE) == 1


def test_equal_rows_are_counted_and_so_is_what_they_leak() -> None:
    assert eda.row_occurrences(TABLE).tolist() == [1, 1, 1, 2, 1, 2]
    # Either of the pair has its copy in training unless that one is tested on as well.
    assert eda.expected_leak(TABLE, 0.2) == pytest.approx(2 / 6 * 0.8)


def test_separation_is_the_epsilon_squared_of_kruskal_and_wallis() -> None:
    from scipy.stats import kruskal

    y = pd.Series([0, 0, 0, 1, 1, 1])
    statistic, _ = kruskal(TABLE["a"][:3], TABLE["a"][3:])
    found = eda.class_separation(TABLE, y)
    assert found["a"] == pytest.approx(statistic / (len(y) - 1))
    assert found["c=y"] == pytest.approx(1)
    assert found.index[0] == "c=y"


def test_pairs_are_ranked_by_strength_of_either_sign() -> None:
    pairs = eda.column_pairs(eda.correlations(TABLE))
    assert len(pairs) == 3
    assert pairs.index[0] == ("a", "b")
    assert pairs.iloc[0] == pytest.approx(-1)


def test_missing_values_are_named_by_column() -> None:
    gaps = TABLE.assign(a=[None, None, 3.0, 4.0, 5.0, 6.0])
    assert eda.missing_values(gaps).to_dict() == {"a": 2}
    assert eda.missing_values(TABLE).empty
