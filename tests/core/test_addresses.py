"""Credentials leave an address where it comes in, and come back where it is used."""

import pytest

from wineexp.core import addresses
from wineexp.core.addresses import keep_credentials, with_credentials, without_credentials
from wineexp.core.errors import UserError

CUT = {
    "http://me:top@host:5000/a?b=1": "http://host:5000/a?b=1",
    "http://me:t,o@p@host": "http://host",
    "postgresql+psycopg://me:to/p@host:5432/db": "postgresql+psycopg://host:5432/db",
    "https://top@host/x.git": "https://host/x.git",
    "postgresql://host/db?user=me&password=top&sslmode=x": "postgresql://host/db?user=me&password=***&sslmode=x",
    "https://a.blob/x.csv?sv=1&sig=top%3D": "https://a.blob/x.csv?sv=1&sig=***",
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
