"""Uses a client that openapi-python-client has generated; prints predictions, MLflow's labels, and output tensors."""

import json
import sys

from generated import Client
from generated.api.mlflow import invocations
from generated.api.open_inference import infer
from generated.api.predictions import predict
from generated.models import InferenceRequest, InferName, InvocationsJsonDataframeRecords, Row

url, row = sys.argv[1], json.loads(sys.argv[2])
client = Client(url)
print(json.dumps(predict.sync(client=client, body=Row.from_dict(row)).to_dict()["predictions"]))
records = InvocationsJsonDataframeRecords.from_dict({"dataframe_records": [row]})
print(json.dumps(invocations.sync(client=client, body=records).to_dict()["predictions"]))
inputs = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in row.items()]
response = infer.sync(InferName("wine"), client=client, body=InferenceRequest.from_dict({"inputs": inputs}))
print(json.dumps(response.to_dict()["outputs"]))
