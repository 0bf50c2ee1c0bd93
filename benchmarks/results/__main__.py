"""Write docs/results.md from the recorded runs of named experiments.

python -m benchmarks.results [--store URI] [--output docs/results.md]
"""

import argparse
import sys
from pathlib import Path

from benchmarks.results import page, references
from wineexp.core.errors import UserError
from wineexp.tracking.names import NAMED_EXPERIMENT
from wineexp.tracking.runs import Runs


def write(uri: str, output: Path, *, alpha: float) -> None:
    """Write the page, and its pictures into a folder beside it with the page's name.

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
    rendered = page.render(records, runs.with_tag(references.BENCHMARK), alpha=alpha, folder=output.stem)
    pictures = output.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for name, picture in rendered.pictures.items():
        (pictures / name).write_bytes(picture)
    output.write_text(rendered.text, encoding="utf-8")
    print(f"Read the page: {output}")


def main() -> None:
    """Read the command line; a store without such runs is told of in one line, with exit code 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", default="sqlite:///mlflow.db", help="MLFLOW_TRACKING_URI wins")
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--alpha", type=float, default=0.05, help="1 - the level of the intervals")
    options = parser.parse_args()
    try:
        write(options.store, options.output, alpha=options.alpha)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
