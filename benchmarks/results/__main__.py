"""Write docs/results.md and its charts from the recorded runs of named experiments.

Run it at the project's root, after `python -m wineexp.train experiment=NAME` has recorded some of conf/experiment/:

    python -m benchmarks.results [--store sqlite:///mlflow.db] [--output docs/results.md]
"""

import argparse
import sys
from pathlib import Path

from benchmarks.results import page, references
from wineexp.core.errors import UserError
from wineexp.tracking.names import NAMED_EXPERIMENT
from wineexp.tracking.runs import Runs


def write(uri: str, output: Path, *, alpha: float) -> None:
    """Write the page, and its charts into a folder beside it with the page's name.

    Raises
    ------
    UserError
        The store holds no finished run of a named experiment.
    """
    runs = Runs(uri, "wine")
    records = [record for record in runs.with_tag(NAMED_EXPERIMENT) if f"cv/{record.metric}" in record.metrics]
    if not records:
        raise UserError(
            f"{runs.uri} holds no finished run of a named experiment; `python -m wineexp.train experiment=cultivar` "
            "records one"
        )
    benchmark = runs.with_tag(references.BENCHMARK_TAG)
    rendered = page.render(records, benchmark, alpha=alpha, folder=output.stem)
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in rendered.charts.items():
        (folder / name).write_bytes(chart)
    output.write_text(rendered.text, encoding="utf-8")
    print(f"Read the page: {output}")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the page; a store without such runs ends in one message and exit code 1."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--store", default="sqlite:///mlflow.db", metavar="URI", help="the MLflow store; MLFLOW_TRACKING_URI wins"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"), metavar="FILE", help="the page")
    parser.add_argument("--alpha", type=float, default=0.05, help="1 - the confidence level of the intervals")
    options = parser.parse_args(arguments)
    try:
        write(options.store, options.output, alpha=options.alpha)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
