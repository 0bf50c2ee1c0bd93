"""Prometheus, with the project's settings, scrapes a server."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import free_port
from tests.serving.conftest import Server
from wineexp.core.paths import ROOT

pytestmark = pytest.mark.journey

DEPLOY = ROOT / "deploy"


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[str]:
    """Prometheus with the server as its target."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus not found")
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    settings["global"]["scrape_interval"] = "1s"
    settings["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [server.url.removeprefix("http://")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    response = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=30)
    return list(response.raise_for_status().json()["data"]["result"])


def test_prometheus_has_every_metric_of_the_dashboard_and_fires_no_alert(
    server: Server, row: dict[str, float], prometheus: str
) -> None:
    def dashboard_queries() -> list[str]:
        panels = json.loads((DEPLOY / "grafana" / "dashboards" / "wineexp.json").read_text())["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]

    def up() -> bool:
        try:
            return query(prometheus, 'up{job="wineexp"} == 1') != []
        except httpx.HTTPError:
            # While it starts, it does not listen, or answers with 503.
            return False

    server.until(up, 60)
    # A rate needs two scrapes with requests between them.
    for _ in range(4):
        server.post("/predict", row)
        server.post("/predict", [])
        server.post("/predict", row | {"alcohol": 99})
        time.sleep(1.1)
    server.until(lambda: all(query(prometheus, expression) for expression in dashboard_queries()))
    rules = httpx.get(f"{prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]
