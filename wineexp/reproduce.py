"""Train a recorded run again and certify that its figures come out the same: `python -m wineexp.reproduce run=ID`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Reproduce
from wineexp.core.errors import UserError
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.tracking.runs import Record
    from wineexp.workflows.certificate import Certificate, Line

log = logging.getLogger(__name__)


@program(Reproduce)
def main(cfg: DictConfig) -> None:
    """Run from the command line; a reproduction in a worktree ends with that process's exit code."""
    outcome = run(cfg)
    if isinstance(outcome, int):
        sys.exit(outcome)


def run(cfg: DictConfig) -> "Certificate | int":
    """Find the run, hold code, data and libraries against its record, train, compare, certify.

    Returns
    -------
    Certificate or int
        With `checkout=true` the exit code of the process that reproduced the run in a worktree.

    Raises
    ------
    UserError
        A figure differs, or what is here is not what the run was recorded with.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run=: which one? run=ID, a version or an alias of the registered model, or a study's name")
    if cfg.tracking.uri is None:
        raise UserError("tracking=off: a run is reproduced from its record; name the store that it is in")

    from wineexp.tracking import store

    with store.store_errors():
        return hold(cfg)


def hold(cfg: DictConfig) -> "Certificate | int":
    """What `main` does, once the config has proved to be sound."""
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import reproduction

    runs = Runs(cfg.tracking.uri, cfg.registry.name)
    record = runs.get(cfg.run)
    recorded = record.config()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if cfg.checkout:
        return elsewhere(record, runs.uri, cfg, folder)
    binding, _ = reproduction.facts(record)
    differing = [line for line in binding if not line.equal]
    if differing and cfg.strict:
        raise UserError(refusal(record, differing))
    for line in differing:
        log.warning("not as recorded: %s", line)
    if cfg.n_jobs is not None:
        recorded.n_jobs = cfg.n_jobs
    certificate = reproduction.certify(record, recorded, runs.uri)
    (folder / "certificate.json").write_text(certificate.json(), encoding="utf-8")
    (folder / "certificate.txt").write_text(certificate.text(), encoding="utf-8")
    log.info(certificate.text())
    log.info("Certificate: %s", folder / "certificate.txt")
    if certificate.first is not None:
        raise UserError(f"run {record.id}: {certificate.verdict}")
    return certificate


def refusal(record: "Record", differing: "list[Line]") -> str:
    """Every difference, and three ways on."""
    commit = record.tags.get("git.commit")
    here = f"git checkout {commit}, " if commit else ""
    return "\n".join(
        [
            f"run {record.id} ({record.name}) was recorded with something else than what is here:",
            *(f"  - {line}" for line in differing),
            f"Go there yourself: {here}apply the artifact git.diff where there is one, install its requirements.txt; "
            "or say checkout=true, which does it in a throw-away copy; or strict=false, to train all the same.",
        ]
    )


def elsewhere(record: "Record", uri: str, cfg: DictConfig, folder: Path) -> int:
    """Reproduce in a worktree of the recorded code, which writes its certificate here; gives the exit code there."""
    import os
    from urllib.parse import urlsplit

    from wineexp.workflows import worktree

    commit, diff = code(record)
    with worktree.checkout(commit, diff) as tree:
        if not (tree / "wineexp/reproduce.py").is_file():
            raise UserError(f"commit {commit} of run {record.id} predates wineexp.reproduce: it cannot do this itself")
        command = [
            *(worktree.interpreter(tree, record.tags, strict=cfg.strict), "-m", "wineexp.reproduce"),
            *(f"run={record.id}", f"strict={cfg.strict}", f"n_jobs={'null' if cfg.n_jobs is None else cfg.n_jobs}"),
            *("hydra.run.dir='{}'".format(str(folder).replace("'", "\\'")), "hydra.output_subdir=null"),
        ]
        # HYDRA_FULL_ERROR was set by this program's own start, not by its user.
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"} | {
            "PYTHONPATH": str(tree),
            # A folder's path would mean another one there.
            "MLFLOW_TRACKING_URI": uri if urlsplit(uri).scheme else str(Path(uri).absolute()),
        }
        log.info("Reproducing in %s, at commit %s.", tree, commit)
        sys.stdout.flush()
        return worktree.call(command, tree, environment)


def code(record: "Record") -> tuple[str, bytes]:
    """The commit and the diff that a run was recorded with, the diff verified."""
    import hashlib

    from wineexp.workflows.certificate import NO_DIFF

    commit, told = record.tags.get("git.commit"), record.tags.get("git.diff.sha256", NO_DIFF)
    if commit is None:
        raise UserError(f"run {record.id} was recorded where there was no git: no commit of it can be checked out")
    diff = b"" if told == NO_DIFF else record.read("git.diff")
    if diff is None:
        raise UserError(f"git.diff of run {record.id}, without which commit {commit} is not its code, was deleted")
    if hashlib.sha256(diff).hexdigest() != told:
        raise UserError(
            f"git.diff of run {record.id} is not the one that it was recorded with: its digest differs from the tag "
            f"git.diff.sha256={told}; it is not applied"
        )
    return commit, diff


if __name__ == "__main__":
    main()
