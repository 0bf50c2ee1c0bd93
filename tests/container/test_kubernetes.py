"""Probes, commands, limits and security contexts of the Kubernetes manifests, tried in Docker."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.container.conftest import IMAGE, Container, Docker, Tracking, build, once, run_container
from wineexp.core.paths import ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1800)]

BASE = ROOT / "deploy" / "kubernetes" / "base"
# The files of the generated ConfigMap, by key.
CONF = {"serve.yaml": ROOT / "conf" / "serve.yaml", "gate.yaml": ROOT / "conf" / "gate" / "usual.yaml"}


def manifest(name: str) -> Any:
    return yaml.safe_load((BASE / name).read_text())


def options(pod: dict[str, Any], container: dict[str, Any], folder: Path) -> list[str]:
    """The options of `docker run` for a pod's container; its emptyDirs are in a folder."""
    pod_context, context = pod["securityContext"], container["securityContext"]
    assert pod_context["runAsNonRoot"]
    assert pod_context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    arguments = [
        "--user",
        f"{pod_context['runAsUser']}:{pod_context['runAsGroup']}",
        "--group-add",
        str(pod_context["fsGroup"]),
    ]
    arguments += [word for capability in context["capabilities"]["drop"] for word in ("--cap-drop", capability)]
    memory = container["resources"]["limits"]["memory"].removesuffix("i").lower()
    arguments += ["--memory", memory, "--memory-swap", memory]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            directory = folder / mount["name"]
            directory.mkdir(exist_ok=True)
            directory.chmod(0o777)
            arguments += ["--volume", f"{directory}:{mount['mountPath']}"]
        else:
            arguments += ["--volume", f"{CONF[mount['subPath']]}:{mount['mountPath']}:ro"]
    return arguments


def passes(container: Container, probe: dict[str, Any]) -> bool:
    try:
        response = httpx.get(f"{container.url}{probe['httpGet']['path']}", timeout=probe["timeoutSeconds"])
    except httpx.TransportError:
        return False
    return 200 <= response.status_code < 400


@contextmanager
def emptied(docker: Docker, image: str, folder: Path) -> Iterator[Path]:
    """Empties a folder afterwards, in a container, since the files belong to its user."""
    try:
        yield folder
    finally:
        arguments = ("--rm", "--user", "0", "--volume", f"{folder}:/folder", "--entrypoint", "sh")
        docker("run", *arguments, image, "-c", "rm -rf /folder/*")


@pytest.fixture
def folder(tmp_path: Path, docker: Docker, image: str) -> Iterator[Path]:
    with emptied(docker, image, tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def retrained(
    docker: Docker, base: str, image: str, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The logs of the CronJob's containers, which register version 1 of the model `retrained`."""
    with once(tmp_path_factory, "trainer"):
        trainer = build(docker, tmp_path_factory, f"{IMAGE}-trainer", base, "--target", "trainer")
    pod = manifest("retraining.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (train,), (promote,) = pod["initContainers"], pod["containers"]
    logs = []
    with emptied(docker, image, tmp_path_factory.mktemp("retraining")) as folder:
        for step in (train, promote):
            hardened = ("--read-only", "--security-opt", "no-new-privileges", *options(pod, step, folder))
            name = f"wineexp-{uuid.uuid4().hex[:8]}"
            overrides = ["registry.name=retrained"] if step is promote else []
            docker(
                "run", "--detach", "--name", name, *hardened, *tracking.options(), trainer, *step["args"], *overrides
            )
            try:
                code = docker("wait", name)
                logs.append(docker("logs", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
                assert code == "0", json.dumps(docker.inspect(name, ".State")) + logs[-1]
            finally:
                docker("rm", "--force", "--volumes", name)
    return logs


@pytest.mark.usefixtures("retrained")
def test_a_pod_of_the_deployment_starts_is_ready_and_stops(
    docker: Docker, image: str, tracking: Tracking, folder: Path
) -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    # The second comes from a Secret that need not be there.
    assert [variable["name"] for variable in server["env"]] == ["MLFLOW_TRACKING_URI", "WINEEXP_LOG"]
    command = ("registry.name=retrained",)
    with run_container(docker, image, *options(pod, server, folder), *tracking.options(), command=command) as container:
        startup = server["startupProbe"]
        container.until(lambda: passes(container, startup), startup["periodSeconds"] * startup["failureThreshold"])
        assert passes(container, server["readinessProbe"])
        assert passes(container, server["livenessProbe"])
        assert container.get("/model").json()["source"]["kind"] == "registry"
        container.execute(*server["lifecycle"]["preStop"]["exec"]["command"])
        assert passes(container, server["readinessProbe"])
        docker("stop", "--time", str(pod["terminationGracePeriodSeconds"]), container.name)
        assert container.wait() == 0


def test_the_key_of_the_overlay_is_required(docker: Docker, image: str, folder: Path) -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    patch = yaml.safe_load((BASE.parent / "production" / "keys.yaml").read_text())
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    (key,) = [variable["name"] for variable in patched["env"]]
    command = tuple(patched["args"])
    with run_container(
        docker, image, *options(pod, server, folder), "--env", f"{key}=grape", command=command
    ) as container:
        container.until(lambda: passes(container, server["readinessProbe"]), 90)
        row = container.get("/model").json()["schema"]["samples"][0]["row"]
        assert container.post("/predict", row).status_code == 401
        headers = {"x-api-key": "grape", "content-type": "application/json"}
        assert container.post("/predict", row, headers=headers).status_code == 200


def test_the_retraining_trains_and_promotes_through_the_gate(retrained: list[str], tracking: Tracking) -> None:
    trained, promoted = retrained
    assert "Recorded as run" in trained
    assert "champion names version 1 of retrained now." in promoted
    decided = tracking.client.get_registered_model("retrained").tags["decision.000001"]
    pod = manifest("retraining.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    # What the image calls this user.
    assert pod["securityContext"]["runAsUser"] == 65532
    assert json.loads(decided)["who"].startswith("wineexp@")
