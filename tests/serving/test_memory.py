"""The memory of a server that gets many large bodies at once: bounded while it reads them, and given back."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.conftest import Server, Store, serving
from tests.serving.test_predictions import problem
from wineexp.serving.middleware.body import MAX_BODIES

BODY_BYTES = 4_194_289
MAX_MEGABYTES = 256

JSON, CSV = "application/json", "text/csv"

TENSOR = '{"inputs":[{"name":"ash","datatype":"FP64","shape":[9],"data":['


def megabytes(server: Server, key: str) -> float:
    """Of the resident memory of its process: the present (VmRSS) or the largest (VmHWM)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) / 1024


def filled(head: str, item: str, tail: str, separator: str = ",") -> bytes:
    """A text of many items that has `BODY_BYTES`."""
    count = (BODY_BYTES - len(head) - len(tail) + len(separator)) // len(item + separator)
    return (head + separator.join([item] * count) + tail).ljust(BODY_BYTES).encode()


@pytest.fixture(scope="module")
def fresh(store: Store) -> Iterator[Server]:
    with serving(store) as running:
        running.until(lambda: not running.get("/readyz").json()["stale"])
        yield running


@pytest.mark.journey
@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/predict", JSON, filled("[", '{"x":1}', "]")),
        ("/predict", JSON, filled('[{"x":[', "{}", "]}]")),
        ("/invocations", JSON, filled('{"dataframe_records":[', '{"x":1}', "]}")),
        ("/invocations", JSON, filled('{"inputs":{"alcohol":[', "1", "]}}")),
        ("/invocations", CSV, filled("FEATURES\n", "1", "\n", "\n")),
        ("/v1/models/wine:predict", JSON, filled('{"instances":[', "[]", "]}")),
        ("/v2/models/wine/infer", JSON, filled(TENSOR, "1", "]}]}")),
        ("/v2/models/wine/infer", JSON, filled('{"inputs":[', "{}", "]}")),
    ],
    ids=["rows", "one row", "records", "columns", "csv", "instances", "data", "tensors"],
)  # fmt: skip
def test_large_wrong_bodies_at_once_take_little_memory_and_it_comes_back(
    fresh: Server, path: str, media_type: str, body: bytes
) -> None:
    features = ",".join(fresh.get("/model").json()["schema"]["samples"][0]["row"])
    body = body.replace(b"FEATURES", features.encode())[:BODY_BYTES]
    # Let the largest be what it is from now on.
    Path(f"/proc/{fresh.process.pid}/clear_refs").write_text("5")
    with ThreadPoolExecutor(MAX_BODIES) as pool:
        responses = [
            pool.submit(fresh.post, path, body, headers={"content-type": media_type}) for _ in range(MAX_BODIES)
        ]
    for response in responses:
        assert problem(response.result(), 422)["errors"]
    assert megabytes(fresh, "VmHWM") < MAX_MEGABYTES
    time.sleep(0.2)
    assert megabytes(fresh, "VmRSS") < MAX_MEGABYTES - MAX_BODIES * BODY_BYTES / 2**20
