import pytest

from tests.serving.conftest import Server
from wineexp.core.paths import ROOT

FOLDER = ROOT / "wineexp" / "serving" / "static"


def test_an_explanation_adds_up_and_its_change_flips(server: Server) -> None:
    flipped = 0
    for sample in server.get("/model").json()["schema"]["samples"]:
        row = sample["row"]
        told = server.post("/explain", row).json()
        answer = server.post("/predict", row).json()
        assert told["model"] == answer["model"]
        why = told["attribution"]
        assert why["class"] == answer["predictions"][0]["class"]
        assert why["exact"]
        assert why["base_value"] + sum(why["contributions"].values()) == pytest.approx(why["output_value"])
        assert set(why["contributions"]) == set(row)
        if told["counterfactual"]:
            flipped += 1
            after = server.post("/predict", row | told["counterfactual"]["values"]).json()["predictions"][0]
            assert after["class"] == told["counterfactual"]["class"] != why["class"]
            assert after["probabilities"][after["class"]] == pytest.approx(told["counterfactual"]["probability"])
            assert after["out_of_range"] == []
    assert flipped >= 3


def test_one_row_is_explained_and_held_to_the_same_rules(server: Server, row: dict[str, float]) -> None:
    two = server.post("/explain", [row, row])
    assert two.status_code == 422
    assert "one is explained at a time" in two.json()["errors"][0]["detail"]
    wrong = server.post("/explain", row | {"ash": "much", "hue": None})
    assert wrong.status_code == 422
    assert {fault["field"] for fault in wrong.json()["errors"]} == {"ash", "hue"}


@pytest.mark.parametrize("value", [1e12, 1e200, -1e308])
def test_what_is_far_beyond_training_is_explained_in_numbers_or_refused(
    server: Server, row: dict[str, float], value: float
) -> None:
    for name in row:
        given = server.post("/explain", row | {name: value})
        if given.status_code == 200:
            assert None not in given.json()["attribution"]["contributions"].values()
            assert given.json()["counterfactual"] is None or given.json()["counterfactual"]["distance"] is not None
        else:
            assert given.status_code == 422, given.text
            assert name in given.json()["errors"][0]["detail"]


def test_the_files_of_the_page_are_strict_and_revalidated(server: Server) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for path in ["/", *(f"/static/{file.name}" for file in sorted(FOLDER.iterdir()))]:
        given = server.get(path)
        kind = types[".html" if path == "/" else path[path.rindex(".") :]]
        assert (given.status_code, given.headers["content-type"].removesuffix("; charset=utf-8")) == (200, kind), path
        assert "default-src 'none'; script-src 'self'" in given.headers["content-security-policy"]
        assert "unsafe" not in given.headers["content-security-policy"]
        assert given.headers["x-content-type-options"] == "nosniff"
        assert given.headers["cache-control"] == "no-cache"
        again = server.get(path, headers={"if-none-match": given.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    card = server.get("/card")
    assert card.headers["content-type"].startswith("text/html")
    assert "sandbox allow-same-origin" in card.headers["content-security-policy"]
    assert "script-src" not in card.headers["content-security-policy"]
    for path in ("/static/none.js", "/static/..%2Fsite.py"):
        refused = server.get(path)
        assert refused.status_code == 404, path
        assert refused.headers["content-type"] == "application/problem+json"
