"""Files of a deployment: valid by their schemas, and consistent with the rest of the repository."""

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
from wineexp.monitoring import verdicts
from wineexp.serving.metrics import Metrics

KUBERNETES = ROOT / "deploy" / "kubernetes"
# An old version of Kubernetes, and a current one.
VERSIONS = ("1.29", "1.34")


def locked_versions(name: str) -> dict[str, set[str]]:
    """Versions by package in a lock file; some have one for each version of Python."""
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


def test_the_lock_of_the_image_is_current() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [Requirement(line) for line in project["dependency-groups"]["serve"]]
    image, training = locked_versions("requirements-serve.txt"), locked_versions("requirements.txt")
    for requirement in requirements:
        name = requirement.name
        assert name in image, f"{name} is not in requirements-serve.txt; generate it again"
        assert all(version in requirement.specifier for version in image[name]), requirement
    # Models are served with the versions of libraries that they are trained with.
    for name, versions in image.items():
        assert versions <= training.get(name.removesuffix("-cpu"), versions), name


def test_what_dask_adds_to_the_image_replaces_nothing() -> None:
    training = locked_versions("requirements.txt")
    for name, versions in locked_versions("requirements-dask.txt").items():
        assert versions == training.get(name, versions), name


def test_the_compose_file_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_folders_and_stages_of_the_compose_file_exist() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    for path in mounted:
        assert not path.startswith(".") or (ROOT / path).is_dir(), path
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    builds = [service.get("build") for service in services.values()]
    targets = {build.get("target") for build in builds if isinstance(build, dict)}
    assert targets <= stages


def render(overlay: str) -> list[dict[str, Any]]:
    """All objects of an overlay, by kubectl; without it, those in the files."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(KUBERNETES / overlay)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))
    paths = [path for path in KUBERNETES.rglob("*.yaml") if path.name not in ("kustomization.yaml", "keys.yaml")]
    return list(itertools.chain(*(yaml.safe_load_all(path.read_text()) for path in paths)))


@pytest.mark.parametrize("overlay", ["base", "production"])
def test_every_kubernetes_object_is_valid(overlay: str) -> None:
    import kubernetes_validate

    objects = render(overlay)
    kinds = {"CronJob", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    assert kinds <= {item["kind"] for item in objects}
    for item, version in itertools.product(objects, VERSIONS):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("path", sorted(KUBERNETES.glob("*/kustomization.yaml")), ids=lambda path: path.parent.name)
def test_files_of_a_kustomization_exist(path: Path) -> None:
    kustomization = yaml.safe_load(path.read_text())
    files = [line.partition("=")[2] for item in kustomization.get("configMapGenerator", []) for line in item["files"]]
    patches = [patch["path"] for patch in kustomization.get("patches", [])]
    for name in [*kustomization["resources"], *files, *patches]:
        assert (path.parent / name).exists(), name
    used = {*kustomization["resources"], *patches, path.name}
    assert {file.name for file in path.parent.glob("*.yaml")} <= used


def test_metrics_of_dashboard_alerts_and_autoscaler_exist() -> None:
    metrics = Metrics()
    evidence = {"log_e_value": 1.0, "needed": 3.0}
    monitored = {
        "alarm": False,
        "shifted": [],
        "rows": 1,
        "labels": 1,
        "when": "2026-01-01T00:00:00",
        "with_labels": evidence,
    }
    metrics.verdicts.said = {verdicts.DRIFT: {"model": "wine", "version": 1, **monitored}}
    text = metrics.text()[0].decode()
    names = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    # Made by the first version of a model of numbers.
    names.add("wineexp_prediction")
    names |= {f"{name}{end}" for name in names for end in ("_bucket", "_count", "_sum")}
    files = [path.read_text() for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    used = {name for content in files for name in re.findall(r"\bwineexp_[a-z_]+", content)}
    assert used
    assert used <= names
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "wineexp.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.journey
def test_each_alert_fires_where_it_should_and_not_before() -> None:
    tests = ROOT / "tests" / "container" / "alerts.yml"
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [each["name"] for each in yaml.safe_load(tests.read_text())["tests"]]
    if shutil.which("promtool") is None:
        pytest.skip("promtool not found")
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_prometheus_settings_are_valid() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool not found")
    command = ["promtool", "check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
