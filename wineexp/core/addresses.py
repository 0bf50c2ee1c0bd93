"""Addresses without their credentials: what is stored, logged or shown names no password.

Credentials leave an address where it comes in, from a command line or an environment variable, and come back only where
it is used. In between they are in an environment variable, which every process inherits that this one starts, and which
other users cannot read. A command line itself is shown by `ps` to all users of a machine, with the password: there, an
environment variable or a file is safer.
"""

import base64
import json
import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

# By each address without its credentials, the whole one, as JSON.
VARIABLE = "WINEEXP_CREDENTIALS"

# User and password before the host, the password perhaps with a slash, which only SQLAlchemy's addresses may have; and
# parameters of a query that are secrets.
# A quote at a text's end in JSON ends its address.
_QUOTE_WITHIN = r"\"(?![\s,:}\]]|$)"
_USER_INFO = re.compile(
    rf"(?<=://)(?:(?:[^\s/?#\"]|{_QUOTE_WITHIN})*@"
    rf"|(?:[^\s:/@\"]|{_QUOTE_WITHIN})+:(?!\d+(?:[/?#\s\"]|$))(?:[^\s@\"]|{_QUOTE_WITHIN})*@)"
)
_SECRET_PARAMETER = re.compile(
    r"([?&;](?:(?:ssl)?pass(?:word|wd)?|pwd|(?:\w+_)?token|(?:\w+_)?secret|api_?key|sig|signature"
    r"|x-(?:amz|goog)-[a-z-]+)=)"
    r"(?:[^\s&;#'\",}\])]|[,}\])](?!\s|$))+",
    re.IGNORECASE,
)
_ADDRESS = re.compile(rf"[A-Za-z][\w+.-]*://(?:{_USER_INFO.pattern})?[^\s'\",\])}}]*")


def without_credentials(text: str) -> str:
    """A text, an address or one that holds some, without the credentials of its addresses."""
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub("", text))


def keep_credentials(text: str) -> str:
    """As `without_credentials`; `with_credentials` gives back each address in the text, in child processes too."""
    cut = without_credentials(text)
    if cut != text:
        by_address = _by_address()
        for address in _ADDRESS.findall(text):
            if (shown := without_credentials(address)) != address:
                by_address[shown] = address
        os.environ[VARIABLE] = json.dumps(by_address)
    return cut


def with_credentials(address: str) -> str:
    """An address as it came in; the same where it came without credentials."""
    return _by_address().get(address, address)


def basic_authorization(address: str) -> tuple[str, dict[str, str]]:
    """An HTTP address without user and password, which urllib takes for a host, and the header that has them."""
    parts = urlsplit(with_credentials(address))
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return plain, authorization(unquote(parts.username), unquote(parts.password or "")) if parts.username else {}


def authorization(username: str, password: str) -> dict[str, str]:
    """The header of HTTP's basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}


def _by_address() -> dict[str, str]:
    return dict(json.loads(os.environ.get(VARIABLE) or "{}"))
