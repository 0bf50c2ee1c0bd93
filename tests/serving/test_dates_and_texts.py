"""A model of dates and of a text of many values, from a file by `add` to the page of its server."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver

from tests.conftest import new_database
from tests.serving.conftest import LENIENT_GATE, Server, Store, fill_cache, serving
from tests.serving.test_page import Page
from wineexp import add, compose, promote, train

pytestmark = pytest.mark.journey

# Not conf, which programs find by themselves, and say so.
CONFIGS = "configs"


def customers(n_rows: int = 600) -> pd.DataFrame:
    """Customers of 60 towns: whether one leaves depends on the town, and on the half of the year of the beginning."""
    rng = np.random.default_rng(0)
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n_rows), "D")
    town = rng.integers(0, 60, n_rows)
    leaves = (since.month > 6) + town / 30 + rng.normal(0, 0.3, n_rows) > 1.5
    columns = {"since": since.strftime("%Y-%m-%d"), "town": [f"town {number}" for number in town]}
    return pd.DataFrame(columns).assign(left=np.where(leaves, "yes", "no"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("customers")
    customers().to_csv(folder / "customers.csv", index=False)
    store = Store(folder)
    (folder / CONFIGS).mkdir()
    new_database(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        add(compose("file=customers.csv", "target=left", program="add", config_dir=CONFIGS))
        run_id = train(compose("data=customers", "model=xgb", "model.n_estimators=20", config_dir=CONFIGS)).run_id
        promote(compose(f"run={run_id}", *LENIENT_GATE, program="promote", config_dir=CONFIGS))
        fill_cache(store)
        with serving(store) as running:
            yield running


def set_field(driver: webdriver.Chrome, name: str, value: str) -> None:
    script = "const field = document.getElementById(arguments[0]); field.value = arguments[1]; "
    driver.execute_script(script + "field.dispatchEvent(new Event('input'))", f"field-{name}", value)


def test_the_page_has_a_field_for_a_date_and_suggests_texts(driver: webdriver.Chrome, server: Server) -> None:
    driver.get_log("browser")
    page = Page(driver, server)
    assert page.find("field-since").get_attribute("type") == "date"
    assert len(driver.execute_script("return [...document.getElementById('field-town').list.options]")) == 60
    for since, town, label in (("2021-02-03", "town 2", "no"), ("2021-11-03", "town 58", "yes")):
        set_field(driver, "since", since)
        set_field(driver, "town", town)
        page.until(lambda label=label: page.label == label)
    set_field(driver, "town", "Atlantis")
    page.until(lambda: "town" in page.text("out-of-range"))
    assert page.text("warning-town") == "In no training row: it counts as a missing value."
    assert driver.get_log("browser") == []


def test_an_unknown_text_is_answered_as_a_missing_one(server: Server) -> None:
    def answer(**values: Any) -> Any:
        (prediction,) = server.post("/predict", {"since": "2021-02-03", **values}).json()["predictions"]
        return prediction

    assert server.get("/model").json()["form"] == "compiled"
    assert answer(town="Atlantis") == answer(town=None)
    assert answer(town="Atlantis")["out_of_range"] == ["town"]
    assert answer(town="town 2")["out_of_range"] == []
