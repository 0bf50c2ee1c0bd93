"""The Jinja templates of the pages, with the filters and the colours that all of them share."""

from pathlib import Path

import jinja2

from wineexp.reports import style, text

FILTERS = (
    *(text.number, text.percent, text.signed, text.spaced, text.decimals),
    *(text.duration, text.file_size, text.timestamp),
)


def template(name: str) -> jinja2.Template:
    """Load a template of this folder; the HTML ones extend layout.html."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["palette"] = style.stylesheet()
    environment.filters |= {"count": "{:,}".format, **{function.__name__: function for function in FILTERS}}
    return environment.get_template(name)
