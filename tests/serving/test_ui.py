"""The files of the page: their types, their security headers, and their revalidation."""

from tests.serving.conftest import Server
from wineexp.core.paths import ROOT

STATIC_FOLDER = ROOT / "wineexp/serving/static"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def test_the_files_of_the_page_are_strict_and_revalidated(server: Server) -> None:
    for path in ["/", *(f"/static/{file.name}" for file in sorted(STATIC_FOLDER.iterdir()))]:
        response = server.get(path)
        assert response.status_code == 200, path
        media_type = MEDIA_TYPES[".html" if path == "/" else path[path.rindex(".") :]]
        assert response.headers["content-type"].removesuffix("; charset=utf-8") == media_type, path
        assert "default-src 'none'; script-src 'self'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"
        again = server.get(path, headers={"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_model_card_runs_nothing(server: Server) -> None:
    card = server.get("/card")
    assert card.headers["content-type"].startswith("text/html")
    assert "sandbox allow-same-origin" in card.headers["content-security-policy"]
    assert "script-src" not in card.headers["content-security-policy"]


def test_a_file_that_the_page_does_not_have_is_not_found(server: Server) -> None:
    for path in ("/static/none.js", "/static/..%2Fui.py"):
        response = server.get(path)
        assert response.status_code == 404, path
        assert response.headers["content-type"] == "application/problem+json"
