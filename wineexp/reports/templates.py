"""What every page shares: how it is laid out and coloured, and how it writes numbers."""

from pathlib import Path

import jinja2

from wineexp.reports import style, text


def template(name: str) -> jinja2.Template:
    """A template of this folder, most of which extend layout.html."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["palette"] = style.stylesheet()
    environment.filters |= {
        "count": "{:,}".format,
        **{
            each.__name__: each
            for each in (
                *(text.number, text.percent, text.signed, text.words, text.figure),
                *(text.seconds, text.size, text.date),
            )
        },
    }
    return environment.get_template(name)
