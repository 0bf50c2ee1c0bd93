"""Compiling a pipeline in a process of its own, so that a crash of the kernel cannot end the promotion."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
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
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compile, args=(sender, fitted, X), daemon=True)
    process.start()
    sender.close()
    try:
        content, status = receiver.recv()
    except EOFError:
        process.join()
        content, status = None, f"the process that was to compile it ended with code {process.exitcode}"
    finally:
        process.terminate()
        process.join()
        receiver.close()
    return content, status


def _compile(sender: "Connection[Any, Any]", fitted: Any, X: pd.DataFrame) -> None:
    # Ctrl-C reaches the whole process group; the parent handles it and terminates this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from wineexp.models.compiled import kernel
    from wineexp.models.compiled.file_format import pack
    from wineexp.models.compiled.flatten import CannotCompileError, flatten
    from wineexp.models.compiled.proof import prove

    kernel.build()
    try:
        content = pack(*flatten(fitted, X))
        prove(content, fitted, X)
    except CannotCompileError as error:
        sender.send((None, str(error)))
    else:
        sender.send((content, COMPILED))
