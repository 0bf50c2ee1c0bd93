"""Speaks to a server with Triton's client; prints what it got as a line of JSON for each way of asking."""

import json
import sys

import numpy as np
import tritonclient.http as triton

url, model, table = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
client = triton.InferenceServerClient(url.removeprefix("http://"))


def tensor(name: str, values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", *, binary: bool) -> object:
    each = triton.InferInput(name, list(values.shape), "FP64")
    each.set_data_from_numpy(values, binary_data=binary)
    return each


def infer(*, binary: bool, outputs: object = None, **more: str) -> None:
    inputs = [tensor(name, np.array(values)[:, None], binary=binary) for name, values in table.items()]
    result = client.infer(model, inputs, outputs=outputs, request_id="mine", **more)
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("class").ravel()]
    print(json.dumps([labels, result.as_numpy("probabilities").tolist(), result.get_response()["id"]]))


# The defaults: tensors as bytes, both ways.
infer(binary=True)
infer(binary=True, request_compression_algorithm="gzip")
infer(binary=True, request_compression_algorithm="deflate", response_compression_algorithm="gzip")
asked = [triton.InferRequestedOutput(name, binary_data=False) for name in ("class", "probabilities")]
infer(binary=False, outputs=asked)
about = client.get_model_metadata(model)
index = client.get_model_repository_index()
ready = client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert not client.is_model_ready("another")
try:
    client.infer(model, [tensor("alcool", np.array([[1.0]]), binary=True)])
except triton.InferenceServerException as error:
    print(json.dumps([about["name"], index, ready, client.get_server_metadata()["extensions"], error.message()]))
