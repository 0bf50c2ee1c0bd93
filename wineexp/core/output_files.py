"""The files in a run's output folder that a program does not write itself."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

# What Hydra writes of a job, in its output_subdir.
HYDRA_RECORDS = ("config.yaml", "hydra.yaml", "overrides.yaml")


def written_by_hydra() -> list[Path]:
    """Hydra's records of the current job, and the log files that its job_logging names and this process has open."""
    settings = HydraConfig.get()
    records = []
    if settings.output_subdir is not None:
        folder = Path(settings.runtime.output_dir) / settings.output_subdir
        records = [folder / name for name in HYDRA_RECORDS]
    handlers = (settings.job_logging or {}).get("handlers") or {}
    named = {Path(handler.filename).absolute() for handler in handlers.values() if handler.get("filename")}
    handlers_in_use = (handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler))
    return [*records, *(path for path in (Path(handler.baseFilename) for handler in handlers_in_use) if path in named)]
