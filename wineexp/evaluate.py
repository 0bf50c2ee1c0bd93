"""Score the predictions of a run: `python -m wineexp.evaluate predictions=outputs/.../predictions.parquet`."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Evaluate
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.core.program import program

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    """Each metric by part (`cv`, `holdout`), and the file with them; the tables for plots are in the same folder."""

    metrics: dict[str, dict[str, float]]
    file: Path


@program(Evaluate)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> EvaluateResult:
    """Read the predictions, score them, write the metrics and a table for each plot, log where they are."""
    if OmegaConf.is_missing(cfg, "predictions"):
        raise UserError(
            "predictions=: no file is given; give the path of the predictions.parquet in a run's output folder"
        )
    from wineexp.workflows import assessment

    target = build(OmegaConf.masked_copy(cfg, "target"))["target"]
    predictions = assessment.read_predictions(Path(cfg.predictions))
    scores = assessment.score_folds(predictions, target)
    folder = Path(HydraConfig.get().runtime.output_dir)
    metrics = assessment.summarise(scores)
    file = folder / "metrics.json"
    file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    for name, table in assessment.plot_tables(predictions, scores).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for part, values in metrics.items():
        # ROC-AUC is missing where only one class occurs.
        log.info("%s/%s: %.4f", part, target.metric, values.get(target.metric, float("nan")))
    log.info("All metrics: %s", file)
    return EvaluateResult(metrics, file)


if __name__ == "__main__":
    main()
