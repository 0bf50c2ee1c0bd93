"""Checks of HTML pages that hold for every page of the project."""

import base64
import re
from html.parser import HTMLParser
from itertools import pairwise

# A browser fetches the addresses in these attributes by itself; that of a link only when a reader follows it.
FETCHED_ATTRIBUTES = {"src", "srcset", "data", "poster", "background", "xlink:href", "action", "formaction"}


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, and its texts with the tag that each follows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._last_tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._last_tag = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._last_tag, data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("style", "script")).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element with this tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def texts_of(self, tag: str) -> list[str]:
        return [text.strip() for name, text in self.texts if name == tag and text.strip()]


def fetched_addresses(html: str) -> list[str]:
    """All addresses that a browser fetches to show a page, including those within its embedded images."""
    page = Page(html)
    addresses = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in FETCHED_ATTRIBUTES
    ]
    addresses += [
        attributes["href"] for tag, attributes in page.tags if tag not in ("a", "area") and "href" in attributes
    ]
    addresses += [
        "".join(groups) for groups in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']?([^\"';]+)", html)
    ]
    images = [svg(address) for address in addresses if address.startswith("data:image/svg+xml;base64,")]
    return addresses + [address for image in images for address in fetched_addresses(image)]


def external_addresses(html: str) -> list[str]:
    """The addresses that a browser would fetch from outside the page."""
    return [address for address in fetched_addresses(html) if not address.startswith(("data:", "#"))]


def svg(uri: str) -> str:
    """The SVG in a data URI."""
    return base64.b64decode(uri.partition(",")[2]).decode()


def check_accessible(page: Page) -> None:
    """The headings form an outline, ids are unique, links within the page have targets, and images have texts."""
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings.count("h1") == 1
    assert headings[0] == "h1"
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(headings))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")} <= set(ids)
    assert all("tabindex" in attributes for _, attributes in page.tags if attributes.get("role") == "region")
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def check_self_contained(html: str) -> None:
    """Nothing is fetched from outside the page, and its policy would refuse what a script might ask for."""
    assert external_addresses(html) == []
    (policy,) = [meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
