"""Documents of paragraphs, tables and pictures, which are rendered as Markdown and as HTML.

Both come from one tree, not the HTML from the Markdown: it has captions and row headings of tables, tiles and pictures,
for which Markdown has no syntax.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup, escape

from wineexp.reports.templates import template


class Code(str):
    """Text that is set as code: a path, a key or a digest."""

    __slots__ = ()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of items, each a sentence or two."""

    kind: ClassVar[str] = "bullets"
    items: list[str]


@dataclass(frozen=True)
class Tiles:
    """The most important values, each with its meaning."""

    kind: ClassVar[str] = "tiles"
    tiles: list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; the columns in `prose` hold words and are aligned to the left."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with a description; Markdown leaves it out, and a table beside it has the values."""

    kind: ClassVar[str] = "picture"
    caption: str
    uri: str
    alt: str


Part = Paragraph | Bullets | Tiles | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and the parts below it."""

    heading: str
    parts: list[Part]

    @property
    def anchor(self) -> str:
        """The id of the section in the page."""
        return re.sub("[^a-z0-9]+", "-", self.heading.lower())


@dataclass(frozen=True)
class Document:
    """A title, a subtitle and sections."""

    title: str
    subtitle: str
    sections: list[Section]


def markdown(document: Document) -> str:
    """The document in GitHub's Markdown."""
    return template("document.md").render(document=document, inline=_markdown, lines=_lines).strip() + "\n"


def html(document: Document) -> str:
    """The document as one page that needs no network, no server and no other file."""
    return template("document.html").render(document=document, inline=_html).strip() + "\n"


def _markdown(text: str) -> Markup:
    """Text on one line, with every character escaped that Markdown would interpret."""
    line = " ".join(text.split())
    if isinstance(text, Code) and line and not set(line) & set("`|"):
        return Markup(f"`{line}`")  # noqa: S704  this is Markdown, not HTML
    if re.fullmatch(r"https?://[^\s<>|]+", line):
        return Markup(f"<{line}>")  # noqa: S704
    return Markup(re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", line))  # noqa: S704


def _html(text: str) -> Markup:
    """Escaped text; code is set as code, and an address on the web becomes a link."""
    if re.match("https?://", text):
        return Markup('<a href="{0}">{0}</a>').format(text)
    return Markup("<code>{}</code>").format(str(text)) if isinstance(text, Code) and text else escape(str(text))


def _lines(table: Table) -> Iterable[Sequence[str]]:
    """The lines of a Markdown table, cell by cell: columns, alignment, rows."""
    aligned_left = table.prose | {table.columns[0]}
    yield [_markdown(column) for column in table.columns]
    yield [":--" if column in aligned_left else "--:" for column in table.columns]
    for row in table.rows:
        yield [_markdown(cell) for cell in row]
