"""Compiling in a process of its own: nothing that it loads, builds or breaks stays with whoever promotes."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd

from wineexp.models.compiled.form import COMPILED


def compiled(fitted: Any, X: pd.DataFrame) -> tuple[bytes | None, str]:
    """The compiled form of a pipeline that was fitted on X (n_samples, n_features), proved, as a file's bytes.

    Returns
    -------
    content : bytes or None
    told : str
        `COMPILED`, or why there is none.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, fitted, X), daemon=True)
    process.start()
    theirs.close()
    try:
        content, told = ours.recv()
    except EOFError:
        process.join()
        content, told = None, f"the process that was to compile it ended with code {process.exitcode}"
    finally:
        process.terminate()
        process.join()
        ours.close()
    return content, told


def _work(answer: "Connection[Any, Any]", fitted: Any, X: pd.DataFrame) -> None:
    # Whoever waits for this is interrupted, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from wineexp.models.compiled import form, kernel
    from wineexp.models.compiled.flatten import NoFormError, flatten
    from wineexp.models.compiled.proof import prove

    kernel.build()
    try:
        content = form.write(*flatten(fitted, X))
        prove(content, fitted, X)
    except NoFormError as error:
        answer.send((None, str(error)))
    else:
        answer.send((content, COMPILED))
