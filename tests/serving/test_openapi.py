"""The OpenAPI document, and the page that shows it."""

import json
import re

import httpx
import pandas as pd
import pytest

from tests.serving.conftest import Server
from tests.serving.test_predictions import problem


def test_the_openapi_document_describes_the_served_model(server: Server, samples: pd.DataFrame) -> None:
    document = server.get("/schema").json()
    assert document["openapi"] == "3.1.0"
    row = document["components"]["schemas"]["Row"]
    assert list(row["properties"]) == row["required"] == list(samples)
    assert row["additionalProperties"] is False
    assert "servers" not in document
    groups = [tag["name"] for tag in document["tags"]]
    assert groups[0] == "predictions"
    assert all(group.isidentifier() for group in groups)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == set(groups)
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert {"predict", "explain", "invocations", "infer", "infer_of_version", "ping", "health", "v1_predict"} < set(ids)


@pytest.mark.journey
def test_the_examples_of_the_openapi_document_are_answered(server: Server) -> None:
    n_examples = 0
    for path, methods in server.get("/schema").json()["paths"].items():
        for method, operation in methods.items():
            served = {each["name"]: each["schema"]["enum"][0] for each in operation.get("parameters", [])}
            bodies = operation.get("requestBody", {"content": {"none": {"example": ""}}})["content"]
            for media_type, content in bodies.items():
                example = content["example"]
                sent = example if isinstance(example, str) else json.dumps(example)
                headers = {} if media_type == "none" else {"content-type": media_type}
                response = httpx.request(
                    method, server.url + path.format(**served), content=sent, headers=headers, timeout=120
                )
                assert response.status_code == 200, (path, response.text)
                n_examples += media_type != "none"
    assert n_examples == 7


def test_swagger_ui_comes_from_the_server_itself(server: Server) -> None:
    page = server.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'; script-src 'self'; " in page.headers["content-security-policy"]
    assert re.findall(r"<script(.*?)>(.*?)</script>", page.text) == [
        (f' src="docs/{name}"', "") for name in ("swagger-ui-bundle.js", "start.js")
    ]
    assert "//" not in page.text.replace("https://", "//").replace("<!", "")
    script = server.get("/docs/swagger-ui-bundle.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert server.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    problem(server.get("/docs/secrets.txt"), 404)
    assert server.get("/docs/favicon.png").status_code == 200
