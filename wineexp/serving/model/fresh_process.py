"""Loads a stored model as a server will: in a process of its own, which has imported nothing else before."""

import json
import os
import subprocess
import sys
from pathlib import Path

from wineexp.core.errors import UserError
from wineexp.core.paths import PACKAGE

# What the process runs.
MODULE = "wineexp.serving.model.fresh_process"


def load(folder: Path) -> None:
    """Load the model in a folder as a server does with a version's files, and check its golden rows.

    Raises
    ------
    UserError
        A check fails, or the process ended before it was done.
    """
    python_path = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", MODULE, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(python_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise UserError(f"the process that was to load the model ended with code {done.returncode}: {last_line}")
    if faults := json.loads(done.stdout.splitlines()[-1]):
        raise UserError(*faults)


def main() -> None:
    """Load the model in the folder that is named on the command line; print the faults as a JSON list."""
    from wineexp.serving.model import loading, pipeline
    from wineexp.serving.model.cache import CachedVersion

    folder = Path(sys.argv[1])
    unregistered = CachedVersion(
        *("", "", 0, "", "", {}), aliases=[], form="", run_name="", params={}, metrics={}, tags={}
    )
    faults: list[str] = []
    try:
        pipeline.load_verified(folder)
        loading.load(folder, unregistered, "", max_rows=1)
    except UserError as error:
        faults += error.faults
    except Exception as error:
        # A model can be broken in any way.
        faults.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
    print(json.dumps(faults))


if __name__ == "__main__":
    main()
