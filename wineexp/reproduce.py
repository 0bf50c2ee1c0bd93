"""Train a recorded run again and certify that every value comes out the same: `python -m wineexp.reproduce run=ID`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Reproduce
from wineexp.core.errors import UserError
from wineexp.core.program import program, program_environment

if TYPE_CHECKING:
    from wineexp.tracking.recorded_run import RecordedRun
    from wineexp.workflows.certificate import Certificate, Pair

log = logging.getLogger(__name__)


@program(Reproduce)
def main(cfg: DictConfig) -> None:
    """Run from the command line; a reproduction in a worktree ends with that process's exit code."""
    outcome = run(cfg)
    if isinstance(outcome, int):
        sys.exit(outcome)


def run(cfg: DictConfig) -> "Certificate | int":
    """Find the run, compare code, data and libraries with its record, train, compare, certify.

    Returns
    -------
    Certificate or int
        With `checkout=true` the exit code of the process that reproduced the run in a worktree.

    Raises
    ------
    UserError
        A value differs, or what is here is not what the run was recorded with.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run=: which one? run=ID, a version or an alias of the registered model, or a study's name")
    if cfg.tracking.uri is None:
        raise UserError("tracking=off: a run is reproduced from its record; name the store that it is in")

    from wineexp.tracking import store
    from wineexp.tracking.runs import Runs

    with store.store_errors():
        runs = Runs(cfg.tracking.uri, cfg.registry.name)
        record = runs.get(cfg.run)
        folder = Path(HydraConfig.get().runtime.output_dir)
        if cfg.checkout:
            # Read here so that an altered config is reported before a worktree is made.
            record.config()
            return reproduce_in_worktree(record, runs.uri, cfg, folder)
        return reproduce_here(record, runs.uri, cfg, folder)


def reproduce_here(record: "RecordedRun", uri: str, cfg: DictConfig, folder: Path) -> "Certificate":
    """Reproduce with the code, data and libraries that are here."""
    from wineexp.workflows import reproduction

    recorded_cfg = record.config()
    if cfg.device is not None:
        recorded_cfg.device = cfg.device
    if cfg.scheduler is not None:
        recorded_cfg.data.scheduler = cfg.scheduler
    origin, _ = reproduction.compare_origin(record, recorded_cfg)
    differing = [pair for pair in origin if not pair.equal]
    if differing and cfg.strict:
        raise UserError(refusal(record, differing))
    for pair in differing:
        log.warning("not as recorded: %s", pair)
    if cfg.n_jobs is not None:
        recorded_cfg.n_jobs = cfg.n_jobs
    certificate = reproduction.certify(record, recorded_cfg, uri)
    (folder / "certificate.json").write_text(certificate.json(), encoding="utf-8")
    (folder / "certificate.txt").write_text(certificate.text(), encoding="utf-8")
    log.info(certificate.text())
    log.info("Certificate: %s", folder / "certificate.txt")
    if certificate.first_difference is not None:
        raise UserError(f"run {record.id}: {certificate.verdict}")
    return certificate


def refusal(record: "RecordedRun", differing: "list[Pair]") -> str:
    """Every difference, and three ways on."""
    from wineexp.tracking import names

    commit = record.tags.get(names.GIT_COMMIT)
    git_checkout = f"git checkout {commit}, " if commit else ""
    return "\n".join(
        [
            f"run {record.id} ({record.name}) was recorded with something else than what is here:",
            *(f"  - {pair}" for pair in differing),
            *missing_modules(differing),
            f"Restore it yourself: {git_checkout}apply the artifact {names.DIFF_FILE} where there is one, install its "
            "requirements.txt; or give checkout=true, which does so in a temporary copy; or strict=false, to train "
            "with what is here.",
        ]
    )


def missing_modules(differing: "list[Pair]") -> list[str]:
    """What to do about modules of the user's own that are not here."""
    from wineexp.tracking import modules, names

    missing = [
        pair.name.removeprefix(names.MODULE_PREFIX) for pair in differing if modules.is_tag(pair.name) and not pair.now
    ]
    if not missing:
        return []
    return [
        f"The run used {', '.join(missing)}, not found here: put the folder that holds it on PYTHONPATH; the run's "
        f"artifact {names.MODULES_FOLDER}/ is a copy of that folder."
    ]


def reproduce_in_worktree(record: "RecordedRun", uri: str, cfg: DictConfig, folder: Path) -> int:
    """Reproduce in a worktree of the recorded code, which writes its certificate here; gives the exit code."""
    import os
    from urllib.parse import urlsplit

    from wineexp.core.addresses import with_credentials
    from wineexp.tracking import modules
    from wineexp.workflows import worktree
    from wineexp.workflows.champion import feedback

    commit, diff = recorded_code(record)
    with worktree.checkout(commit, diff) as tree:
        if not (tree / "wineexp/reproduce.py").is_file():
            raise UserError(f"commit {commit} of run {record.id} predates wineexp.reproduce: it cannot do this itself")
        worktree.bring_feedback(tree, feedback(record.config()))
        command = [
            *(worktree.find_interpreter(tree, record.tags, strict=cfg.strict), "-m", "wineexp.reproduce"),
            *(f"run={record.id}", f"strict={cfg.strict}", f"n_jobs={'null' if cfg.n_jobs is None else cfg.n_jobs}"),
            # Commits of before them know no such keys.
            *(f"{key}={cfg[key]}" for key in ("device", "scheduler") if cfg[key] is not None),
            *("hydra.run.dir='{}'".format(str(folder).replace("'", "\\'")), "hydra.output_subdir=null"),
        ]
        environment = program_environment() | {
            "PYTHONPATH": os.pathsep.join([str(modules.restore(record, tree.parent)), str(tree)]),
            # A relative path would name another folder there.
            "MLFLOW_TRACKING_URI": with_credentials(uri) if urlsplit(uri).scheme else str(Path(uri).absolute()),
        }
        log.info("Reproducing in %s, at commit %s.", tree, commit)
        sys.stdout.flush()
        return worktree.run_command(command, tree, environment)


def recorded_code(record: "RecordedRun") -> tuple[str, bytes]:
    """The commit and the diff that a run was recorded with, the diff verified by its digest.

    Raises
    ------
    UserError
        There was no git, or the diff was deleted or altered.
    """
    import hashlib

    from wineexp.tracking import names
    from wineexp.workflows.certificate import EMPTY_DIFF_SHA256

    commit = record.tags.get(names.GIT_COMMIT)
    if commit is None:
        raise UserError(f"run {record.id} was recorded where there was no git: no commit of it can be checked out")
    diff_sha256 = record.tags.get(names.GIT_DIFF_SHA256, EMPTY_DIFF_SHA256)
    diff = b"" if diff_sha256 == EMPTY_DIFF_SHA256 else record.read(names.DIFF_FILE)
    if diff is None:
        raise UserError(
            f"{names.DIFF_FILE} of run {record.id}, without which commit {commit} is not its code, was deleted"
        )
    if hashlib.sha256(diff).hexdigest() != diff_sha256:
        raise UserError(
            f"{names.DIFF_FILE} of run {record.id} is not the one that it was recorded with: its digest differs from "
            f"the tag {names.GIT_DIFF_SHA256}={diff_sha256}; it is not applied"
        )
    return commit, diff


if __name__ == "__main__":
    main()
