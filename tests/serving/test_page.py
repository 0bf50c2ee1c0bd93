"""The page, in a real Chromium, over a real server."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.serving.conftest import Server, Store, serving
from wineexp.core.paths import ROOT
from wineexp.evaluation.palette import PALETTE

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
STATIC = ROOT / "wineexp" / "serving" / "static"


class Page:
    """What a reader sees and does."""

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
        return "" if self.find("answer").get_attribute("aria-busy") == "true" else self.text("label")

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

    def answered(self) -> dict[str, Any]:
        """What the server says of the values in the form."""
        return dict(self.server.post("/predict", self.values).json()["predictions"][0])

    def sample(self, name: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, f"button[aria-label='{name}']").click()

    def shows(self, answer: dict[str, Any]) -> bool:
        told = {label: f"{100 * share:.1f} %" for label, share in answer["probabilities"].items()}
        return self.label == answer["class"] and all(
            shown == told[label] or shown.startswith("<") or float(shown[:-2]) > 99.9
            for label, shown in self.shares.items()
        )


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """A browser that reaches this machine alone."""
    chromedriver = shutil.which("chromedriver")
    if chromedriver is None:
        pytest.skip("no chromedriver: install chromium and chromium-driver to test the page")
    options = webdriver.ChromeOptions()
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Iterator[Page]:
    """A page freshly opened; afterwards nothing may have gone wrong in it, or have been asked of anyone else."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    yield Page(driver, server)
    # Chromium itself notes refusals, and rows of a file that are wrong are refused.
    assert [note for note in driver.get_log("browser") if "status of 422" not in note["message"]] == []
    assert foreign(driver, server) == set()
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_slider_moves_the_answer_to_what_the_server_says(page: Page) -> None:
    page.sample("wine 2 of cultivar 1")
    page.until(lambda: page.shows(page.answered()))
    assert "cultivar 1" in page.text("said")
    before, shares = page.values, page.shares
    slider = page.find("slider-proline")
    slider.send_keys(*[Keys.PAGE_DOWN] * 9)
    page.until(lambda: page.shares != shares)
    assert page.values["proline"] < before["proline"]
    assert {name: value for name, value in page.values.items() if name != "proline"} == {
        name: value for name, value in before.items() if name != "proline"
    }
    page.until(lambda: page.shows(page.answered()))
    page.until(lambda: "cultivar" in page.text("spoken"))
    assert not page.find("said").is_displayed()


def test_a_value_beyond_training_is_answered_with_a_warning(page: Page) -> None:
    field = page.find("field-alcohol")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    page.until(lambda: "Waiting for alcohol" in page.text("asked"))
    assert page.text("told-alcohol") == "A number is wanted."
    field.send_keys("19.5")
    page.until(lambda: page.find("beyond").is_displayed())
    assert "alcohol" in page.text("beyond")
    assert "11.41 to 14.83 % vol" in page.text("told-alcohol")
    page.until(lambda: page.shows(page.answered()))
    page.sample("the median wine")
    page.until(lambda: not page.find("beyond").is_displayed())
    assert not page.find("told-alcohol").is_displayed()


def test_why_and_a_change_that_flips_the_class(page: Page) -> None:
    page.sample("wine 1 of cultivar 2")
    page.until(lambda: page.shows(page.answered()) and page.find("apply").is_displayed())
    explained = page.server.post("/explain", page.values).json()
    assert explained["attribution"]["class"] == page.label
    first = page.driver.find_element(By.CSS_SELECTOR, "#parts .row .name").text
    assert first == next(iter(explained["attribution"]["contributions"])).replace("_", " ")
    change = explained["counterfactual"]
    assert change["class"] != page.label
    assert f"cultivar {change['class']}" in page.text("change-told")
    page.find("apply").click()
    page.until(lambda: page.label == change["class"])
    assert {name: page.values[name] for name in change["values"]} == change["values"]


def test_a_csv_file_is_answered_and_its_faults_are_told(page: Page, tmp_path: Path) -> None:
    samples = page.server.get("/model").json()["schema"]["samples"]
    table = pd.DataFrame([{"cellar": f'"{place}", left', **each["row"]} for place, each in enumerate(samples)])
    table = table.astype(object)
    table.loc[1, "ash"], table.loc[3, "hue"], table.loc[4, "alcohol"] = "much", None, 40
    table.to_csv(tmp_path / "cellar.csv", sep=";", index=False)
    page.find("tab-batch").click()
    page.find("file").send_keys(str(tmp_path / "cellar.csv"))
    page.until(lambda: "7 of 9 wines answered" in page.text("summary"))
    assert "2 cannot be" in page.text("summary")
    assert "1 has values beyond" in page.text("summary")
    rows = [row.text for row in page.driver.find_elements(By.CSS_SELECTOR, "#answers tbody tr")]
    assert len(rows) == 9
    assert "ash: a number is wanted" in rows[0]
    assert "hue: a number is wanted" in rows[1]
    found = downloaded(page, tmp_path / "cellar-answered.csv")
    assert list(found["cellar"]) == list(table["cellar"])
    good = [place for place in range(9) if place not in (1, 3)]
    asked = [table.drop(columns="cellar").iloc[place].to_dict() for place in good]
    answers = page.server.post("/predict", asked).json()["predictions"]
    assert [str(label) for label in found["predicted cultivar"].iloc[good].astype(int)] == [a["class"] for a in answers]
    assert list(found["probability 1"].iloc[good]) == [answer["probabilities"]["1"] for answer in answers]
    assert found["predicted cultivar"].isna().sum() == 2
    assert found.loc[4, "out_of_range"] == "alcohol"


def downloaded(page: Page, path: Path) -> pd.DataFrame:
    allowed = {"behavior": "allow", "downloadPath": str(path.parent)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    page.find("download").click()
    page.until(path.exists)
    return pd.read_csv(path)


def test_everything_is_reached_and_done_with_the_keyboard(page: Page) -> None:
    walked = []
    for _ in range(60):
        focused = press(page, Keys.TAB)
        walked.append(focused.get_attribute("id") or focused.get_attribute("aria-label"))
        outline = focused.value_of_css_property("outline-style"), focused.value_of_css_property("outline-width")
        assert outline == ("solid", "3px"), walked[-1]
        if focused.get_attribute("id") == "apply":
            break
    wanted = ["tab-predict", "the median wine", "wine 1 of cultivar 3", "field-alcohol", "slider-alcohol", "apply"]
    assert [name for name in walked if name in wanted] == wanted
    assert "tab-batch" not in walked, "arrows lead from tab to tab"
    label = page.label
    press(page, Keys.ENTER)
    page.until(lambda: page.label != label)
    page.find("tab-predict").send_keys(Keys.END)
    assert page.find("live").is_displayed()
    assert not page.find("predict").is_displayed()
    assert press(page, Keys.ARROW_RIGHT).get_attribute("aria-selected") == "true"
    assert page.find("predict").is_displayed()
    for control in page.driver.find_elements(By.CSS_SELECTOR, "input, button"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")


def press(page: Page, key: str) -> WebElement:
    page.driver.switch_to.active_element.send_keys(key)
    return page.driver.switch_to.active_element


def test_a_phone_at_night(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    night = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": night})
    for tab in ("predict", "batch", "card", "live"):
        page.find(f"tab-{tab}").click()
        page.until(lambda tab=tab: page.find(tab).is_displayed() and (tab != "card" or carded(page)))
        assert page.script("return [document.documentElement.scrollWidth, window.innerWidth]") == [360, 360], tab
    ground, red = page.script(
        "const body = getComputedStyle(document.body); return [body.backgroundColor, body.getPropertyValue('--wine')]"
    )
    assert ground == "rgb({}, {}, {})".format(*bytes.fromhex(PALETTE["ground"][1][1:]))
    assert red == PALETTE["wine"][1]
    page.until(lambda: "predictions asked for" in page.text("figures"))


def carded(page: Page) -> bool:
    """Whether the card is there, in a frame as tall as what is in it."""
    return bool(
        page.script(
            "const frame = document.querySelector('#card iframe'), inside = frame?.contentDocument;"
            "return inside?.querySelector('h1') && frame.clientHeight >= inside.body.scrollHeight"
        )
    )


def test_the_page_notices_another_version(page: Page, store: Store) -> None:
    assert "version 2" in page.text("title")
    values = page.values
    store.point(1)
    page.server.until(lambda: page.server.get("/readyz").json()["model"]["version"] == 1)
    page.find("slider-ash").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.find("news").is_displayed())
    assert "Version 1 of wine answers now" in page.text("news")
    assert "version 1" in page.text("title")
    assert page.values == values | {"ash": page.values["ash"]}
    page.until(lambda: page.shows(page.answered()))
    store.point(2)
    page.server.until(lambda: page.server.get("/readyz").json()["model"]["version"] == 2)


def test_a_server_out_of_reach_is_told_and_found_again(driver: webdriver.Chrome, server: Server) -> None:
    page = Page(driver, server)
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": True})
    page.find("slider-ash").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: "cannot be reached. Trying again in" in page.text("trouble"))
    page.find("slider-hue").send_keys(Keys.ARROW_LEFT)
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": False})
    page.until(lambda: not page.find("trouble").is_displayed())
    page.until(lambda: page.shows(page.answered()))


def test_a_key_is_asked_for_and_used(driver: webdriver.Chrome, store: Store) -> None:
    with serving(store, "serve.keys.predictions=WINE_KEY", WINE_KEY="sesame") as server:
        driver.get(f"{server.url}/")
        page = Page.__new__(Page)
        page.driver, page.server = driver, server
        page.until(lambda: page.find("key").is_displayed())
        page.find("key-field").send_keys("sesame", Keys.ENTER)
        page.until(lambda: page.label == "2")
        assert not page.find("key").is_displayed()
        page.script("sessionStorage.clear()")


def test_the_documentation_is_drawn_without_a_network(driver: webdriver.Chrome, server: Server) -> None:
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    page = Page.__new__(Page)
    page.driver, page.server = driver, server
    driver.get(f"{server.url}/docs")
    described = server.get("/schema").json()["paths"]
    page.until(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".opblock")) == len(described))
    assert "0.1.0+model." in page.driver.find_element(By.CSS_SELECTOR, ".info").text
    assert driver.get_log("browser") == []
    assert foreign(driver, server) == set()


def foreign(driver: webdriver.Chrome, server: Server) -> set[str]:
    """What was asked of anybody but the server."""
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"}
    assert any(url.startswith(f"{server.url}/") for url in asked)
    return {url for url in asked if not url.startswith((f"{server.url}/", f"blob:{server.url}/", "data:"))}


def test_the_page_has_the_colours_of_the_charts() -> None:
    style = (STATIC / "style.css").read_text()
    day, night = style.split("@media (prefers-color-scheme: dark)")[:2]
    for name, (light, dark) in PALETTE.items():
        assert f"--{name}: {light};" in day
        assert f"--{name}: {dark};" in night
