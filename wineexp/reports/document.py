"""Documents: prose, tables and pictures, said once, and rendered as Markdown and as HTML."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup, escape

from wineexp.reports.templates import template


class Code(str):
    """What is spelled exactly so: a path, a key, a digest."""

    __slots__ = ()


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Bullets:
    """Items, each a sentence or two."""

    kind: ClassVar[str] = "bullets"
    items: list[str]


@dataclass(frozen=True)
class Tiles:
    """The few figures that a reader comes for: each a figure and what it is."""

    kind: ClassVar[str] = "tiles"
    figures: list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under named columns, the first of which names the row; `prose` are the columns that hold words."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and what it shows in words; Markdown leaves it out, for a table says the same."""

    kind: ClassVar[str] = "picture"
    caption: str
    uri: str
    alt: str


Part = Paragraph | Bullets | Tiles | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    parts: list[Part]

    @property
    def anchor(self) -> str:
        """The heading as an address within the page."""
        return re.sub("[^a-z0-9]+", "-", self.heading.lower())


@dataclass(frozen=True)
class Document:
    """A title, what it is about, and sections."""

    title: str
    subject: str
    sections: list[Section]


def markdown(document: Document) -> str:
    """The document in GitHub's Markdown."""
    return template("document.md").render(document=document, inline=_markdown, lines=_lines).strip() + "\n"


def html(document: Document) -> str:
    """The document as one page that needs no network, no server and no other file."""
    return template("document.html").render(document=document, inline=_html).strip() + "\n"


def _markdown(text: str) -> Markup:
    """Text that Markdown takes as text, on one line."""
    line = " ".join(text.split())
    if isinstance(text, Code) and line and not set(line) & set("`|"):
        return Markup(f"`{line}`")  # noqa: S704  Markdown is not HTML, and is escaped by its own rules
    if re.fullmatch(r"https?://[^\s<>|]+", line):
        return Markup(f"<{line}>")  # noqa: S704
    return Markup(re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", line))  # noqa: S704


def _html(text: str) -> Markup:
    """Text as text; code is set as code, and an address on the web can be followed."""
    if re.match("https?://", text):
        return Markup('<a href="{0}">{0}</a>').format(text)
    return Markup("<code>{}</code>").format(str(text)) if isinstance(text, Code) and text else escape(str(text))


def _lines(table: Table) -> Iterable[Sequence[str]]:
    """The lines of a Markdown table, cell by cell: columns, alignment, rows."""
    left = table.prose | {table.columns[0]}
    yield [_markdown(column) for column in table.columns]
    yield [":--" if column in left else "--:" for column in table.columns]
    for row in table.rows:
        yield [_markdown(cell) for cell in row]
