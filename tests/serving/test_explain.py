"""Explanations over HTTP: they add up, their counterfactuals hold, and rows are checked as for predictions."""

from pathlib import Path

import pytest

from tests.serving.conftest import Server, children
from wineexp.serving.refresh.process import WORKER_MODULE


def test_an_explanation_adds_up_and_its_counterfactual_flips_the_class(server: Server) -> None:
    flipped = 0
    for sample in server.get("/model").json()["schema"]["samples"]:
        row = sample["row"]
        explanation = server.post("/explain", row).json()
        response = server.post("/predict", row).json()
        assert explanation["model"] == response["model"]
        attribution = explanation["attribution"]
        assert attribution["class"] == response["predictions"][0]["class"]
        assert attribution["unit"] == "probability"
        assert attribution["exact"]
        assert attribution["standard_errors"] is None
        assert attribution["background_rows"] >= 100
        assert attribution["output_value"] == pytest.approx(
            response["predictions"][0]["probabilities"][attribution["class"]], abs=1e-6
        )
        assert attribution["base_value"] + sum(attribution["contributions"].values()) == pytest.approx(
            attribution["output_value"]
        )
        assert set(attribution["contributions"]) == set(row)
        if explanation["counterfactual"]:
            flipped += 1
            after = server.post("/predict", row | explanation["counterfactual"]["values"]).json()["predictions"][0]
            assert after["class"] == explanation["counterfactual"]["class"] != attribution["class"]
            assert after["probabilities"][after["class"]] == pytest.approx(explanation["counterfactual"]["probability"])
            assert after["out_of_range"] == []
    assert flipped >= 3


def test_what_explains_can_be_kept_ready(server: Server) -> None:
    def runs() -> bool:
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children(server)]
        return any(WORKER_MODULE.encode() in command for command in commands)

    response = server.post("/explain/prepare", {})
    assert (response.status_code, response.json()) == (202, {"status": "preparing"})
    server.until(runs)


def test_one_row_at_a_time_is_explained_and_checked_as_for_a_prediction(server: Server, row: dict[str, float]) -> None:
    two = server.post("/explain", [row, row])
    assert two.status_code == 422
    assert "one is explained at a time" in two.json()["errors"][0]["detail"]
    wrong = server.post("/explain", row | {"ash": "much", "hue": "deep"})
    assert wrong.status_code == 422
    assert {fault["field"] for fault in wrong.json()["errors"]} == {"ash", "hue"}


@pytest.mark.parametrize("value", [1e12, 1e200, -1e308])
def test_a_row_far_outside_the_training_range_is_explained_in_finite_numbers_or_refused(
    server: Server, row: dict[str, float], value: float
) -> None:
    for name in row:
        response = server.post("/explain", row | {name: value})
        if response.status_code == 200:
            assert None not in response.json()["attribution"]["contributions"].values()
            assert (
                response.json()["counterfactual"] is None or response.json()["counterfactual"]["distance"] is not None
            )
        else:
            assert response.status_code == 422, response.text
            assert name in response.json()["errors"][0]["detail"]
