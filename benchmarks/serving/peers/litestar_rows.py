"""Litestar with a msgspec row, and one way after another to the answer; PEER_KIND says which."""

import os

import msgspec
import numpy as np
from litestar import Litestar, post
from rows import FOLDER, NAMES, answer, model

Row = msgspec.defstruct("Row", [(name, float) for name in NAMES])


def pandas():
    import pandas as pd

    pipeline = model()
    return lambda row: pipeline.predict_proba(pd.DataFrame([msgspec.structs.asdict(row)]))[0].tolist()


def numpy():
    """The fitted steps by hand, without the table that names their columns."""
    pipeline = model()
    steps, classifier = pipeline[0].named_transformers_["number"], pipeline[-1]
    return lambda row: classifier.predict_proba(steps.transform(np.array([msgspec.structs.astuple(row)])))[0].tolist()


def onnx():
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(FOLDER / "model.onnx", options)
    return lambda row: session.run(["probabilities"], {"X": np.array([msgspec.structs.astuple(row)], "f4")})[0][
        0
    ].tolist()


def echo():
    told = np.full(6, 1 / 6).tolist()
    return lambda _: told


ask = {"pandas": pandas, "numpy": numpy, "onnx": onnx, "echo": echo}[os.environ["PEER_KIND"]]()


@post("/predict", status_code=200)
async def predict(data: Row) -> dict[str, object]:
    return answer(ask(data))


app = Litestar([predict], openapi_config=None, logging_config=None)
