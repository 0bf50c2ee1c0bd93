"""The files that a deployment is made of: valid by their own schemas, and true to what is in the tree."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from wineexp.core.paths import ROOT
from wineexp.serving.metrics import Metrics

KUBERNETES = ROOT / "deploy" / "kubernetes"
# A cluster of some years ago, and one of today.
VERSIONS = ("1.29", "1.34")


def pins(name: str) -> dict[str, set[str]]:
    """Versions by name: one, or one for each version of Python."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def test_the_image_s_lock_is_current() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(line) for line in project["dependency-groups"]["serve"]]
    mine, all_of_it = pins("requirements-serve.txt"), pins("requirements.txt")
    for each in wanted:
        assert each.name in mine, f"{each.name} is not in requirements-serve.txt; make it anew"
        assert all(version in each.specifier for version in mine[each.name]), each
    # What a model was trained with is what it is asked with.
    for name, versions in mine.items():
        assert versions <= all_of_it.get(name.removesuffix("-cpu"), versions), name


def test_compose_fits_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_compose_mounts_and_builds_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for each in services.values() for volume in each.get("volumes", [])]
    for path in mounted:
        assert not path.startswith(".") or (ROOT / path).is_dir(), path
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    targets = {each["build"].get("target") for each in services.values() if isinstance(each.get("build"), dict)}
    assert targets <= stages


def rendered(overlay: str) -> list[dict[str, Any]]:
    """All objects of an overlay, by kubectl's kustomize; without it, the files themselves."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(KUBERNETES / overlay)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))
    paths = [path for path in KUBERNETES.rglob("*.yaml") if path.name not in ("kustomization.yaml", "keys.yaml")]
    return list(itertools.chain(*(yaml.safe_load_all(path.read_text()) for path in paths)))


@pytest.mark.parametrize("overlay", ["base", "production"])
def test_kubernetes_takes_every_object(overlay: str) -> None:
    import kubernetes_validate

    objects = rendered(overlay)
    wanted = {"CronJob", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    assert wanted <= {each["kind"] for each in objects}
    for each, version in itertools.product(objects, VERSIONS):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("path", sorted(KUBERNETES.glob("*/kustomization.yaml")), ids=lambda path: path.parent.name)
def test_what_a_kustomization_names_is_there(path: Path) -> None:
    said = yaml.safe_load(path.read_text())
    files = [line.partition("=")[2] for each in said.get("configMapGenerator", []) for line in each["files"]]
    patches = [each["path"] for each in said.get("patches", [])]
    for name in [*said["resources"], *files, *patches]:
        assert (path.parent / name).exists(), name
    used = {*said["resources"], *patches, path.name}
    assert {each.name for each in path.parent.glob("*.yaml")} <= used


def test_dashboard_alerts_and_autoscaler_ask_for_figures_that_there_are() -> None:
    told = Metrics().text().decode()
    names = set(re.findall(r"^# HELP (\S+)", told, re.MULTILINE))
    names |= {f"{name}{end}" for name in names for end in ("_bucket", "_count", "_sum")}
    asked = [path.read_text() for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    found = {name for text in asked for name in re.findall(r"\bwineexp_[a-z_]+", text)}
    assert found
    assert found <= names
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "wineexp.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_prometheus_takes_its_settings() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool not found")
    command = ["promtool", "check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
