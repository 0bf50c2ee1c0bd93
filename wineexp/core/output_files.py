"""The files in a run's output folder that a program does not write itself."""

import logging
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from wineexp.core.addresses import without_credentials

# What Hydra writes of a job, in its output_subdir.
HYDRA_RECORDS = ("config.yaml", "hydra.yaml", "overrides.yaml")
# What it writes of a sweep, in the sweep's folder.
SWEEP_RECORD = "multirun.yaml"


def hide_credentials() -> None:
    """Cut the credentials from addresses in what Hydra has written of the current job, as of one in a YAML file."""
    settings = HydraConfig.get()
    written = _records(settings)
    if settings.mode == RunMode.MULTIRUN:
        written.append(Path(settings.sweep.dir) / SWEEP_RECORD)
    for path in filter(Path.is_file, written):
        text = path.read_text(encoding="utf-8")
        if (cut := without_credentials(text)) != text:
            path.write_text(cut, encoding="utf-8")


def written_by_hydra() -> list[Path]:
    """Hydra's records of the current job, and the log files that its job_logging names and this process has open."""
    settings = HydraConfig.get()
    handlers = (settings.job_logging or {}).get("handlers") or {}
    named = {Path(handler.filename).absolute() for handler in handlers.values() if handler.get("filename")}
    handlers_in_use = (handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler))
    return [
        *_records(settings),
        *(path for path in (Path(handler.baseFilename) for handler in handlers_in_use) if path in named),
    ]


def _records(settings: HydraConf) -> list[Path]:
    if settings.output_subdir is None:
        return []
    folder = Path(settings.runtime.output_dir) / settings.output_subdir
    return [folder / name for name in HYDRA_RECORDS]
