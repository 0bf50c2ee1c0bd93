"""Compiling a pipeline in a process of its own, so that a crash of the kernel cannot end the promotion."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from wineexp.models.compiled.file_format import COMPILED


def compile_pipeline(fitted: Any, X: pd.DataFrame) -> tuple[bytes | None, str]:
    """Compile a pipeline that was fitted on X (n_samples, n_features), and prove that it predicts the same.

    Returns
    -------
    content : bytes or None
        The file of the compiled model; None where the pipeline cannot be compiled.
    status : str
        `COMPILED`, or why the pipeline cannot be compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "pipeline.pickle"), Path(folder, "result.pickle")
        given.write_bytes(pickle.dumps((fitted, X)))
        # Not with multiprocessing, which runs a script that promotes without a main guard once more, and waits forever.
        # In a session of its own, since Ctrl-C is for the parent, which then kills this process.
        done = subprocess.run(
            [sys.executable, "-m", __name__, given, made],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
            check=False,
        )
        if not made.exists():
            return None, f"the process that was to compile it ended with code {done.returncode}"
        content, status = pickle.loads(made.read_bytes())  # noqa: S301  made by the process that was started here
        return content, status


def main(given: str, made: str) -> None:
    """Compile the pipeline in the one file, and write what `compile_pipeline` gives into the other."""
    from wineexp.core.errors import UserError
    from wineexp.models.compiled import kernel
    from wineexp.models.compiled.file_format import pack
    from wineexp.models.compiled.flatten import flatten
    from wineexp.models.compiled.proof import prove
    from wineexp.models.compiled.refusal import CannotCompileError

    fitted, X = pickle.loads(Path(given).read_bytes())  # noqa: S301  made by the process that started this one
    kernel.build()
    result: tuple[bytes | None, str]
    try:
        content = pack(*flatten(fitted, X))
        prove(content, fitted, X)
        result = content, COMPILED
    except (CannotCompileError, UserError) as error:
        result = None, str(error)
    Path(made).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
