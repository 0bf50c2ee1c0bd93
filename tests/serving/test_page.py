"""The web page, in a real Chromium, with a real server."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

import wineexp.compare
from tests.serving.conftest import Server, Store, copy_store, serving
from wineexp.core.paths import ROOT
from wineexp.evaluation.palette import PALETTE

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
KEY = "sesame"
STATIC = ROOT / "wineexp" / "serving" / "static"


class Page:
    """The page as its reader sees and uses it."""

    def __init__(self, driver: webdriver.Chrome, server: Server) -> None:
        self.driver = driver
        self.server = server
        driver.get(f"{server.url}/")
        self.until(lambda: self.label not in ("", "…"))

    def find(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self.find(name).text

    def until(self, true: Callable[[], Any], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, self.driver.find_element(By.TAG_NAME, "body").text
            time.sleep(0.05)

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)  # type: ignore[no-untyped-call]

    @property
    def label(self) -> str:
        return "" if self.find("prediction").get_attribute("aria-busy") == "true" else self.text("label")

    @property
    def shares(self) -> dict[str, str]:
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#probabilities .row")
        return {row.text.split("\n")[0]: row.text.split("\n")[1] for row in rows}

    @property
    def values(self) -> dict[str, float]:
        fields = self.driver.find_elements(By.CSS_SELECTOR, "#form input[type=number]")
        return {
            str(field.get_attribute("id")).removeprefix("field-"): float(field.get_property("value"))  # type: ignore[arg-type]
            for field in fields
        }

    def prediction(self) -> dict[str, Any]:
        """The server's prediction for the values in the form."""
        headers = {"content-type": "application/json", "x-api-key": KEY}
        return dict(self.server.post("/predict", self.values, headers=headers).json()["predictions"][0])

    def start_from(self, name: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, f"button[aria-label='{name}']").click()

    def is_current(self) -> bool:
        """Whether the page shows the server's prediction."""
        prediction = self.prediction()
        expected = {label: f"{100 * share:.1f} %" for label, share in prediction["probabilities"].items()}
        return self.label == prediction["class"] and all(
            shown == expected[label] or shown.startswith("<") or float(shown[:-2]) > 99.9
            for label, shown in self.shares.items()
        )


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Iterator[Page]:
    """The page; after each test there must be no errors in its log and no requests to other servers."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    yield Page(driver, server)
    # Chromium logs responses with an error status, such as those for the faulty rows of a file.
    assert [note for note in driver.get_log("browser") if "status of 422" not in note["message"]] == []
    assert other_requests(driver, server) == set()
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_prediction_follows_a_slider(page: Page) -> None:
    assert (page.text("tab-predict"), page.text("tab-batch")) == ("One wine", "Many wines")
    page.start_from("wine 2 of cultivar 1")
    page.until(page.is_current)
    assert "cultivar 1" in page.text("true-label")
    before, shares = page.values, page.shares
    slider = page.find("slider-proline")
    slider.send_keys(*[Keys.PAGE_DOWN] * 9)
    page.until(lambda: page.shares != shares)
    assert page.values["proline"] < before["proline"]
    assert {name: value for name, value in page.values.items() if name != "proline"} == {
        name: value for name, value in before.items() if name != "proline"
    }
    page.until(page.is_current)
    page.until(lambda: "cultivar" in page.text("announcement"))
    assert not page.find("true-label").is_displayed()


def test_a_value_outside_the_training_range_is_predicted_with_a_warning(page: Page) -> None:
    field = page.find("field-alcohol")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    page.until(lambda: page.text("prediction-status") == "Missing: alcohol")
    assert page.text("warning-alcohol") == "Enter a number."
    field.send_keys("19.5")
    page.until(lambda: page.find("out-of-range").is_displayed())
    assert "alcohol" in page.text("out-of-range")
    assert "11.41 to 14.83 % vol" in page.text("warning-alcohol")
    page.until(page.is_current)
    page.start_from("the median wine")
    page.until(lambda: not page.find("out-of-range").is_displayed())
    assert not page.find("warning-alcohol").is_displayed()


@pytest.mark.journey
def test_attribution_and_counterfactual_are_shown_and_applied(page: Page) -> None:
    page.start_from("wine 1 of cultivar 2")
    # The process that explains may have to start, and on a busy machine takes long to import its libraries.
    page.until(lambda: page.is_current() and page.find("apply").is_displayed(), seconds=60)
    explanation = page.server.post("/explain", page.values).json()
    assert explanation["attribution"]["class"] == page.label
    first = page.driver.find_element(By.CSS_SELECTOR, "#contributions .row .name").text
    assert first == next(iter(explanation["attribution"]["contributions"])).replace("_", " ")
    counterfactual = explanation["counterfactual"]
    assert counterfactual["class"] != page.label
    assert f"cultivar {counterfactual['class']}" in page.text("counterfactual-text")
    page.find("apply").click()
    page.until(lambda: page.label == counterfactual["class"])
    assert {name: page.values[name] for name in counterfactual["values"]} == counterfactual["values"]


def test_a_csv_file_is_predicted_and_its_faults_are_listed(page: Page, tmp_path: Path) -> None:
    samples = page.server.get("/model").json()["schema"]["samples"]
    table = pd.DataFrame([{"cellar": f'"{index}", left', **sample["row"]} for index, sample in enumerate(samples)])
    table = table.astype(object)
    table.loc[1, "ash"], table.loc[3, "hue"], table.loc[4, "alcohol"] = "0x0E", None, 40
    # Spreadsheets would run these.
    table.loc[[0, 2, 5], "cellar"] = ['=HYPERLINK("http://a","b")', "@SUM(1)", "-1"]
    # As training files name their columns, and as Excel marks a file.
    spaced = table.rename(columns=lambda name: name.replace("_", " "))
    text = "\ufeffsep=;\n" + spaced.to_csv(sep=";", index=False)
    (tmp_path / "cellar.csv").write_text(text)
    page.find("tab-batch").click()
    page.find("file").send_keys(str(tmp_path / "cellar.csv"))
    page.until(lambda: "8 of 9 wines predicted" in page.text("summary"))
    assert "1 has faults" in page.text("summary")
    assert "2 have values outside the training range" in page.text("summary")
    rows = [row.text for row in page.driver.find_elements(By.CSS_SELECTOR, "#results tbody tr")]
    assert len(rows) == 9
    assert "ash: a number is wanted" in rows[0]
    predicted = download(page, tmp_path / "cellar-predictions.csv")
    harmless = table["cellar"].replace(
        {'=HYPERLINK("http://a","b")': '\'=HYPERLINK("http://a","b")', "@SUM(1)": "'@SUM(1)"}
    )
    assert list(predicted["cellar"]) == list(harmless)
    correct = [index for index in range(9) if index != 1]
    rows = json.loads(table.drop(columns="cellar").iloc[correct].to_json(orient="records"))
    expected = page.server.post("/predict", rows).json()["predictions"]
    labels = predicted["predicted cultivar"].iloc[correct].astype(int).astype(str)
    assert list(labels) == [prediction["class"] for prediction in expected]
    assert list(predicted["probability 1"].iloc[correct]) == [each["probabilities"]["1"] for each in expected]
    assert predicted["predicted cultivar"].isna().sum() == 1
    assert predicted.loc[3, "out_of_range"] == "hue"
    assert predicted.loc[4, "out_of_range"] == "alcohol"


def download(page: Page, path: Path) -> pd.DataFrame:
    allowed = {"behavior": "allow", "downloadPath": str(path.parent)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    page.find("download").click()
    page.until(path.exists)
    return pd.read_csv(path)


@pytest.mark.journey
def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    page.until(lambda: page.find("apply").is_displayed(), seconds=60)
    focus_order = []
    for _ in range(60):
        focused = press(page, Keys.TAB)
        focus_order.append(focused.get_attribute("id") or focused.get_attribute("aria-label"))
        outline = focused.value_of_css_property("outline-style"), focused.value_of_css_property("outline-width")
        assert outline == ("solid", "3px"), focus_order[-1]
        if focused.get_attribute("id") == "apply":
            break
    expected = ["tab-predict", "the median wine", "wine 1 of cultivar 3", "field-alcohol", "slider-alcohol", "apply"]
    assert [name for name in focus_order if name in expected] == expected
    assert "tab-batch" not in focus_order, "arrow keys move between tabs"
    label = page.label
    press(page, Keys.ENTER)
    page.until(lambda: page.label != label)
    page.find("tab-predict").send_keys(Keys.END)
    assert page.find("monitor").is_displayed()
    assert not page.find("predict").is_displayed()
    assert press(page, Keys.ARROW_RIGHT).get_attribute("aria-selected") == "true"
    assert page.find("predict").is_displayed()
    for control in page.driver.find_elements(By.CSS_SELECTOR, "input, button"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")


def press(page: Page, key: str) -> WebElement:
    page.driver.switch_to.active_element.send_keys(key)
    return page.driver.switch_to.active_element


def test_the_page_fits_a_phone_and_follows_its_dark_mode(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    page.find("tab-monitor").click()
    page.until(lambda: "The monitor has said nothing of this version yet" in page.text("drift"))
    for tab in ("predict", "batch", "card", "monitor", "live"):
        page.find(f"tab-{tab}").click()
        page.until(lambda tab=tab: page.find(tab).is_displayed() and (tab != "card" or card_fits(page)))
        assert page.script("return [document.documentElement.scrollWidth, window.innerWidth]") == [360, 360], tab
    ground, red = page.script(
        "const body = getComputedStyle(document.body); return [body.backgroundColor, body.getPropertyValue('--wine')]"
    )
    assert ground == "rgb({}, {}, {})".format(*bytes.fromhex(PALETTE["ground"][1][1:]))
    assert red == PALETTE["wine"][1]
    page.until(lambda: "requests for predictions" in page.text("figures"))


# The texts of cells that lie beyond the page's width, where no box around them scrolls.
CLIPPED_CELLS = """
    const page = arguments[0] ? document.querySelector(arguments[0]).contentDocument : document;
    return [...page.querySelectorAll("th, td")].filter((cell) => !cell.closest("[role=region]")
      && cell.getBoundingClientRect().right > page.documentElement.clientWidth + 1).map((cell) => cell.textContent);
"""


@pytest.mark.journey
def test_no_column_of_the_card_and_of_a_comparison_is_cut_on_a_phone(
    page: Page, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.find("tab-card").click()
    page.until(lambda: card_fits(page))
    assert page.script(CLIPPED_CELLS, "#card iframe") == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    wineexp.compare(wineexp.compose("format=html", f"hydra.run.dir={tmp_path}", program="compare"))
    page.driver.get(f"file://{tmp_path}/compare.html")
    assert page.driver.find_elements(By.TAG_NAME, "td")
    assert page.script(CLIPPED_CELLS, None) == []
    # The fixture looks for requests to other places than this server.
    page.driver.get_log("performance")
    page.driver.get(f"{page.server.url}/")


def test_of_many_features_the_less_important_ones_are_folded(page: Page) -> None:
    assert page.driver.find_elements(By.CSS_SELECTOR, "#form details") == []
    schema = page.server.get("/model").json()["schema"]
    features = [feature | {"name": f"{feature['name']}_{copy}"} for copy in (1, 2) for feature in schema["features"]]
    ranking = [feature["name"] for feature in reversed(features)]
    shown, summary, folded, is_open = page.driver.execute_async_script(
        """
        const [schema, done] = arguments;
        import(new URL("static/form.js", location)).then(({ Form }) => {
          const form = document.createElement("form");
          new Form(form, schema, () => {});
          const details = form.querySelector("details");
          const names = (boxes) => [...boxes].map((box) => box.querySelector("input[type=number]").id.slice(6));
          done([names(form.querySelectorAll(":scope > .feature")), details.querySelector("summary").textContent,
            names(details.querySelectorAll(".feature")), details.open]);
        }, (error) => done(["", String(error), "", ""]));
        """,
        schema | {"features": features, "ranking": ranking},
    )
    assert (shown, folded, is_open) == (ranking[:12], ranking[12:], False), summary
    assert summary == f"{len(ranking) - 12} less important features"


def test_the_tiles_of_the_live_tab_fill_their_rows_from_the_start(page: Page) -> None:
    page.find("tab-live").click()
    page.until(lambda: "requests for predictions" in page.text("figures"))
    assert page.text("rate-chart") == "No request for a prediction since this page was opened."
    tops = page.script("return [...document.querySelectorAll('#figures > div')].map((tile) => tile.offsetTop)")
    assert len(set(Counter(tops).values())) == 1, "as many in each row"


def card_fits(page: Page) -> bool:
    """Whether the card is shown, in a frame as tall as its document."""
    return bool(
        page.script(
            "const frame = document.querySelector('#card iframe'), inside = frame?.contentDocument;"
            "return inside?.querySelector('h1') && frame.clientHeight >= inside.body.scrollHeight"
        )
    )


def test_the_page_tries_again_while_the_server_cannot_be_reached(driver: webdriver.Chrome, server: Server) -> None:
    page = Page(driver, server)
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": True})
    page.find("slider-ash").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: "cannot be reached. Trying again in" in page.text("error"))
    page.find("slider-hue").send_keys(Keys.ARROW_LEFT)
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": False})
    page.until(lambda: not page.find("error").is_displayed())
    page.until(page.is_current)


@pytest.fixture(scope="module")
def own_server(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Store]]:
    """A server that requires an API key, with a store whose alias may be moved."""
    store = copy_store(promoted, tmp_path_factory.mktemp("page"))
    with serving(store, "serve.keys.predictions=WINE_KEY", WINE_KEY=KEY) as server:
        yield server, store


@pytest.fixture
def page_with_key(driver: webdriver.Chrome, own_server: tuple[Server, Store]) -> Iterator[Page]:
    """The page of this server, with the key entered."""
    page = Page.__new__(Page)
    page.driver, page.server = driver, own_server[0]
    driver.get(f"{page.server.url}/")
    page.until(lambda: page.find("key-form").is_displayed())
    page.find("key-field").send_keys(KEY, Keys.ENTER)
    page.until(lambda: page.label not in ("", "…"))
    yield page
    page.script("sessionStorage.clear()")


def test_the_page_asks_for_an_api_key(page_with_key: Page) -> None:
    assert page_with_key.label == "2"
    assert not page_with_key.find("key-form").is_displayed()


@pytest.mark.journey
def test_the_page_loads_another_version(page_with_key: Page, own_server: tuple[Server, Store]) -> None:
    page, (server, store) = page_with_key, own_server
    assert "version 2" in page.text("title")
    values = page.values
    store.point(1)
    server.until(lambda: server.get("/readyz").json()["model"]["version"] == 1)
    page.find("slider-ash").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.find("notice").is_displayed())
    assert "Version 1 of wine has replaced version 2" in page.text("notice")
    assert "version 1" in page.text("title")
    assert page.values == values | {"ash": page.values["ash"]}
    page.until(page.is_current)


@pytest.mark.journey
def test_swagger_ui_works_without_other_servers(driver: webdriver.Chrome, server: Server) -> None:
    # Another page would go on sending requests.
    driver.get("about:blank")
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    page = Page.__new__(Page)
    page.driver, page.server = driver, server
    # The slash is one that people type; the page's files are found with it, too.
    driver.get(f"{server.url}/docs/")
    paths = server.get("/schema").json()["paths"]
    page.until(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".opblock")) == len(paths))
    assert f"{wineexp.__version__}+model." in page.driver.find_element(By.CSS_SELECTOR, ".info").text
    assert driver.get_log("browser") == []
    assert other_requests(driver, server) == set()


def other_requests(driver: webdriver.Chrome, server: Server) -> set[str]:
    """URLs of the requests that went to other servers."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert any(url.startswith(f"{server.url}/") for url in urls)
    return {url for url in urls if not url.startswith((f"{server.url}/", f"blob:{server.url}/", "data:"))}


def test_the_page_knows_no_noun_of_its_own_for_a_row() -> None:
    for path in [*STATIC.glob("*.html"), *STATIC.glob("*.js")]:
        assert not re.search(r"\bwines?\b", path.read_text(), re.IGNORECASE), path.name


def test_the_page_has_the_colours_of_the_charts() -> None:
    style = (STATIC / "style.css").read_text()
    day, night = style.split("@media (prefers-color-scheme: dark)")[:2]
    for name, (light, dark) in PALETTE.items():
        assert f"--{name}: {light};" in day
        assert f"--{name}: {dark};" in night
