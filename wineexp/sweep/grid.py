"""Names the best job of a grid, which Hydra's own sweeper runs (`hydra/sweeper=basic`) without comparing its jobs.

Hydra instantiates what `hydra.callbacks` names at every start of the program, so that nothing is imported here.
"""

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

log = logging.getLogger(__name__)

# Jobs may run in processes of their own: each adds a line, and the program reads them all.
RESULTS_FILE = "results.jsonl"
# It names the best of its trials itself.
OWN_SWEEPER = "hydra_plugins.wineexp_sweeper.OptunaSweeper"


class BestJob(Callback):
    """Collects what the jobs of a grid return, and logs the best for each metric, data set and target."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remove the results of an earlier grid in the same folder."""
        if _is_grid(config):
            _results_file(config).unlink(missing_ok=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write down the job's result."""
        value = job_return.return_value if job_return.status == JobStatus.COMPLETED else None
        if not _is_grid(config) or not isinstance(value, float):
            return
        choices, target = config.hydra.runtime.choices, config.target
        result = {
            "job": config.hydra.job.num,
            "task": f"{choices['data']} · {choices['target']}",
            "metric": target.metric,
            "direction": target.get("direction", "maximize"),
            "value": value,
            "overrides": job_return.overrides,
        }
        with _results_file(config).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Log the best jobs."""
        if not _is_grid(config) or not (file := _results_file(config)).exists():
            return
        tasks: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for line in file.read_text(encoding="utf-8").splitlines():
            result = json.loads(line)
            tasks[result["task"], result["metric"], result["direction"]].append(result)
        for (task, metric, direction), results in tasks.items():
            best = (max if direction == "maximize" else min)(results, key=lambda result: float(result["value"]))
            log.info(
                "best of %d jobs on %s: job %d, %s %.4f, with %s",
                *(
                    len(results),
                    task,
                    best["job"],
                    metric.replace("_", " "),
                    best["value"],
                    " ".join(best["overrides"]),
                ),
            )


def _is_grid(config: DictConfig) -> bool:
    """Whether a job is one of Hydra's own sweeper."""
    return bool(config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN") and (
        config.hydra.sweeper._target_ != OWN_SWEEPER
    )


def _results_file(config: DictConfig) -> Path:
    return Path(config.hydra.sweep.dir, RESULTS_FILE)
