"""Credentials leave an address where it comes in, and come back where it is used."""

import json
import logging

import pytest

from wineexp.core import addresses
from wineexp.core.addresses import keep_credentials, with_credentials, without_credentials
from wineexp.core.errors import UserError
from wineexp.core.program import _without_credentials
from wineexp.serving import logs

CUT = {
    "http://me:top@host:5000/a?b=1": "http://host:5000/a?b=1",
    "http://me:t,o@p@host": "http://host",
    "postgresql+psycopg://me:to/p@host:5432/db": "postgresql+psycopg://host:5432/db",
    "https://top@host/x.git": "https://host/x.git",
    "postgresql://host/db?user=me&password=top&sslmode=x": "postgresql://host/db?user=me&password=***&sslmode=x",
    "https://a.blob/x.csv?sv=1&sig=top%3D": "https://a.blob/x.csv?sv=1&sig=***",
    "https://host/t?client_secret=top&x=1": "https://host/t?client_secret=***&x=1",
    "postgresql://host/db?sslpassword=top": "postgresql://host/db?sslpassword=***",
    "https://host/x?X-Goog-Credential=me%2F1&X-Goog-Signature=top": (
        "https://host/x?X-Goog-Credential=***&X-Goog-Signature=***"
    ),
    'postgresql://me:t"op@host/db': "postgresql://host/db",
    '{"a":"http://me:top@host","b":"x@y"}': '{"a":"http://host","b":"x@y"}',
    "uri: http://me:top@a and 'http://me:top@b/'": "uri: http://a and 'http://b/'",
}


@pytest.mark.parametrize("text", CUT)
def test_credentials_are_cut_from_each_address_of_a_text(text: str) -> None:
    assert without_credentials(text) == CUT[text]
    assert without_credentials(CUT[text]) == CUT[text]


@pytest.mark.parametrize(
    "text",
    [
        "models:/wine@champion",
        "http://127.0.0.1:5000/#/runs?x=a@b",
        "s3://bucket/a@b",
        "me@host",
        "sqlite:////a@b/c.db",
        '{"registry":"http://host:5000","why":"models:/wine@champion"}',
        '{"registry":"http://host","why":["models:/wine:1@champion"]}',
    ],
)
def test_what_holds_no_credentials_stays_as_it_is(text: str) -> None:
    assert without_credentials(text) == text


def test_an_address_gets_its_credentials_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(addresses.VARIABLE, raising=False)
    whole, other = "http://me:t,op@host:5000", "postgresql://host/db?password=top"
    cut = [keep_credentials(text) for text in (f"tracking.uri={whole}", f"data={{url: {other}, x: 1}}", "a=b")]
    assert cut == ["tracking.uri=http://host:5000", "data={url: postgresql://host/db?password=***, x: 1}", "a=b"]
    assert with_credentials("http://host:5000") == whole
    assert with_credentials("postgresql://host/db?password=***") == other
    assert with_credentials("http://elsewhere") == "http://elsewhere"


def test_an_error_shows_no_credentials() -> None:
    assert str(UserError("http://me:top@host: refused")) == "http://host: refused"


def test_a_line_of_a_servers_log_stays_json_with_all_of_its_keys() -> None:
    event = {"registry": "http://host:5000", "why": "models:/wine@champion", "url": "http://me:top@host"}
    assert json.loads(logs._encode(event)) == event | {"url": "http://host"}


def test_a_logged_traceback_shows_no_credentials() -> None:
    try:
        raise ValueError("http://me:top@host: refused")
    except ValueError as error:
        raised = (type(error), error, error.__traceback__)
    record = logging.LogRecord("name", logging.ERROR, __file__, 1, "failed", None, raised)
    text = logging.Formatter().format(_without_credentials(record))
    assert text.startswith("failed\nTraceback")
    assert text.endswith("ValueError: http://host: refused")
