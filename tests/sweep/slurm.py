"""A Slurm of one node, on this machine: Debian's packages, with configuration, key, ports and state of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import INHERITED, free_port

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue")
START_SECONDS = 60

# Without cgroups, and with more cores than there are, since workers in tests wait more than they compute.
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES
"""


class Slurm:
    """Commands of a user of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        environment = {**INHERITED, **self.variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    def states(self, job: str) -> dict[str, str]:
        """The state of each task of a job array, by its index."""
        jobs = [
            dict(word.partition("=")[::2] for word in line.split())
            for line in self.ask("scontrol", "--oneliner", "show", "job", job).splitlines()
        ]
        return {words["ArrayTaskId"]: words["JobState"] for words in jobs}

    def is_ready(self) -> bool:
        """Whether the node takes jobs."""
        return self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle"

    def cancel_all(self) -> None:
        """Kill every job; what a test that failed has left would outlive the node's daemon."""
        deadline = time.monotonic() + START_SECONDS
        while self.ask("squeue", "--noheader").strip() and time.monotonic() < deadline:
            self.ask("scancel", "--signal=KILL", "--full", "--user=root")
            time.sleep(0.5)


@contextmanager
def slurm_cluster() -> Iterator[Slurm]:
    """A cluster that takes jobs; skips where this machine has no Slurm or does not let it run."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("a Slurm of one's own needs root")
    # The path of a socket is short, unlike pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    host = socket.gethostname().partition(".")[0]
    ports = {"controller_port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
    subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True)
    slurm = Slurm(folder)
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "seed", "log")]
    key = [f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons.append(_start(folder, slurm.variables, "munged", "--foreground", "--force", *key, *files))
        daemons.append(_start(folder, slurm.variables, "slurmctld", "-D", "-i"))
        daemons.append(_start(folder, slurm.variables, "slurmd", "-D"))
        deadline = time.monotonic() + START_SECONDS
        while not slurm.is_ready():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                pytest.skip(f"Slurm does not run here: {(folder / 'log').read_text()[-1000:]}")
            time.sleep(0.1)
        yield slurm
    finally:
        slurm.cancel_all()
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(30)
        shutil.rmtree(folder)


def _start(folder: Path, variables: Mapping[str, str], *command: str) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("ab") as log:
        environment = {**INHERITED, **variables}
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
