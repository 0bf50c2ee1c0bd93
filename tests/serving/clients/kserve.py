"""Speaks to a server with KServe's client; prints what it got as a line of JSON for each way of asking."""

import asyncio
import json
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import numpy as np

url, model, table, folder = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])
# The package imports its server and the API of Kubernetes; its client needs neither.
package = types.ModuleType("kserve")
package.__path__ = [str(folder / "kserve")]
sys.modules["kserve"] = package

from kserve.inference_client import InferenceRESTClient, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import InferInput, InferRequest  # noqa: E402


def request(*, binary: bool, **parameters: bool) -> Any:
    inputs = []
    for name, values in table.items():
        each = InferInput(name, [len(values), 1], "FP64")
        each.set_data_from_numpy(np.array(values)[:, None], binary_data=binary)
        inputs.append(each)
    return InferRequest(model, inputs, request_id="mine", parameters=parameters)


async def main() -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        for asked in (request(binary=False), request(binary=True), request(binary=True, binary_data_output=True)):
            response = await client.infer(url, asked, model_name=model)
            labels, probabilities = (output.data for output in response.outputs)
            print(json.dumps([labels, np.reshape(probabilities, (len(labels), -1)).tolist(), response.id]))
        ready = await client.is_server_live(url) and await client.is_server_ready(url)
        models = [await client.is_model_ready(url, name) for name in (model, "another")]
        print(json.dumps([ready, *models]))
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
        for instances in (rows, [list(row.values()) for row in rows]):
            print(json.dumps(await client.infer(url, {"instances": instances}, model_name=model)))
        print(json.dumps(await client.is_model_ready(url, model)))
        try:
            await client.infer(url, {"instances": []}, model_name=model)
        except httpx.HTTPStatusError as error:
            print(json.dumps(error.response.status_code))


asyncio.run(main())
