"""Litestar with a msgspec row; PEER_KIND chooses how it predicts: with pandas, numpy or ONNX, or not at all (echo)."""

import os

import msgspec
import numpy as np
from litestar import Litestar, post
from rows import FOLDER, NAMES, model, respond

Row = msgspec.defstruct("Row", [(name, float) for name in NAMES])


def pandas():
    import pandas as pd

    pipeline = model()
    return lambda row: pipeline.predict_proba(pd.DataFrame([msgspec.structs.asdict(row)]))[0].tolist()


def numpy():
    """The fitted steps one by one, without a table that names the columns."""
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
    probabilities = np.full(6, 1 / 6).tolist()
    return lambda _: probabilities


predict_row = {"pandas": pandas, "numpy": numpy, "onnx": onnx, "echo": echo}[os.environ["PEER_KIND"]]()


@post("/predict", status_code=200)
async def predict(data: Row) -> dict[str, object]:
    return respond(predict_row(data))


app = Litestar([predict], openapi_config=None, logging_config=None)
