"""What the Kubernetes manifests say, done in Docker: their probes, commands, limits and security contexts."""

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

from tests.container.conftest import IMAGE, Container, Docker, Tracking, build, contained, once
from wineexp.core.paths import ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1800)]

BASE = ROOT / "deploy" / "kubernetes" / "base"
# In the generated ConfigMap, by key.
CONF = {"serve.yaml": ROOT / "conf" / "serve.yaml", "gate.yaml": ROOT / "conf" / "gate" / "usual.yaml"}


def manifest(name: str) -> Any:
    return yaml.safe_load((BASE / name).read_text())


def options(pod: dict[str, Any], container: dict[str, Any], folder: Path) -> list[str]:
    """Of `docker run`, what a kubelet would make of a pod's container; its emptyDirs are in a folder."""
    run, locked = pod["securityContext"], container["securityContext"]
    assert run["runAsNonRoot"]
    assert run["seccompProfile"] == {"type": "RuntimeDefault"}
    assert locked["readOnlyRootFilesystem"]
    assert not locked["allowPrivilegeEscalation"]
    found = ["--user", f"{run['runAsUser']}:{run['runAsGroup']}", "--group-add", str(run["fsGroup"])]
    found += [word for capability in locked["capabilities"]["drop"] for word in ("--cap-drop", capability)]
    memory = container["resources"]["limits"]["memory"].removesuffix("i").lower()
    found += ["--memory", memory, "--memory-swap", memory]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            own = folder / mount["name"]
            own.mkdir(exist_ok=True)
            own.chmod(0o777)
            found += ["--volume", f"{own}:{mount['mountPath']}"]
        else:
            found += ["--volume", f"{CONF[mount['subPath']]}:{mount['mountPath']}:ro"]
    return found


def passes(container: Container, probe: dict[str, Any]) -> bool:
    try:
        answer = httpx.get(f"{container.url}{probe['httpGet']['path']}", timeout=probe["timeoutSeconds"])
    except httpx.TransportError:
        return False
    return 200 <= answer.status_code < 400


@contextmanager
def owned(docker: Docker, image: str, folder: Path) -> Iterator[Path]:
    """The folder, for emptyDirs, whose files belong to the container's user."""
    try:
        yield folder
    finally:
        mine = ("--rm", "--user", "0", "--volume", f"{folder}:/own", "--entrypoint", "sh")
        docker("run", *mine, image, "-c", "rm -rf /own/*")


@pytest.fixture
def folder(tmp_path: Path, docker: Docker, image: str) -> Iterator[Path]:
    with owned(docker, image, tmp_path) as own:
        yield own


@pytest.fixture(scope="module")
def retrained(
    docker: Docker, base: str, image: str, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """What the CronJob's containers said; since then, `retrained` has a version in an otherwise empty registry."""
    with once(tmp_path_factory, "trainer"):
        trainer = build(docker, tmp_path_factory, f"{IMAGE}-trainer", base, "--target", "trainer")
    pod = manifest("retraining.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (train,), (promote,) = pod["initContainers"], pod["containers"]
    told = []
    with owned(docker, image, tmp_path_factory.mktemp("retraining")) as folder:
        for step in (train, promote):
            locked = ("--read-only", "--security-opt", "no-new-privileges", *options(pod, step, folder))
            name = f"wineexp-{uuid.uuid4().hex[:8]}"
            own = ["registry.name=retrained"] if step is promote else []
            docker("run", "--detach", "--name", name, *locked, *tracking.options(), trainer, *step["args"], *own)
            try:
                code = docker("wait", name)
                told.append(docker("logs", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
                assert code == "0", json.dumps(docker.inspect(name, ".State")) + told[-1]
            finally:
                docker("rm", "--force", "--volumes", name)
    return told


@pytest.mark.usefixtures("retrained")
def test_a_pod_of_the_deployment_starts_is_ready_and_leaves_as_it_should(
    docker: Docker, image: str, tracking: Tracking, folder: Path
) -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert [each["name"] for each in server["env"]] == ["MLFLOW_TRACKING_URI"]
    named = ("registry.name=retrained",)
    with contained(docker, image, *options(pod, server, folder), *tracking.options(), command=named) as container:
        startup = server["startupProbe"]
        container.until(lambda: passes(container, startup), startup["periodSeconds"] * startup["failureThreshold"])
        assert passes(container, server["readinessProbe"])
        assert passes(container, server["livenessProbe"])
        assert container.get("/model").json()["source"]["kind"] == "registry"
        container.execute(*server["lifecycle"]["preStop"]["exec"]["command"])
        assert passes(container, server["readinessProbe"])
        docker("stop", "--time", str(pod["terminationGracePeriodSeconds"]), container.name)
        assert container.exits() == 0


def test_the_overlay_s_key_is_asked_for(docker: Docker, image: str, folder: Path) -> None:
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    patch = yaml.safe_load((BASE.parent / "production" / "keys.yaml").read_text())
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    (key,) = [each["name"] for each in patched["env"]]
    command = tuple(patched["args"])
    with contained(docker, image, *options(pod, server, folder), "--env", f"{key}=grape", command=command) as container:
        container.until(lambda: passes(container, server["readinessProbe"]), 90)
        row = container.get("/model").json()["schema"]["samples"][0]["row"]
        assert container.post("/predict", row).status_code == 401
        headers = {"x-api-key": "grape", "content-type": "application/json"}
        assert container.post("/predict", row, headers=headers).status_code == 200


def test_the_retraining_trains_and_puts_its_run_through_the_gate(retrained: list[str], tracking: Tracking) -> None:
    trained, promoted = retrained
    assert "Recorded as run" in trained
    assert "champion names version 1 of retrained now." in promoted
    decided = tracking.client.get_registered_model("retrained").tags["decision.000001"]
    pod = manifest("retraining.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert json.loads(decided)["who"].startswith(f"{pod['securityContext']['runAsUser']}@")
