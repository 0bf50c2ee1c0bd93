"""The helpers of `tests/pages.py` find what they look for."""

import pytest

from tests.pages import external_addresses


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="x.css">',
        "<style>@import 'x.css';</style>",
        "<style>@font-face { src: url(//fonts.example/x) }</style>",
    ],
)
def test_an_address_outside_the_page_is_found(html: str) -> None:
    assert len(external_addresses(html)) == 1
