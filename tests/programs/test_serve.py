"""Settings of `python -m wineexp.serve` that cannot be, refused together before anything starts."""

import pytest

from wineexp import UserError, compose, serve


def test_settings_that_cannot_be_are_refused_together() -> None:
    overrides = ["serve.host=unix:/run/wine.sock", "serve.workers=0", "serve.alias=3"]
    with pytest.raises(UserError) as refused:
        serve(compose(*overrides, program="serve"))
    workers, host, alias = refused.value.faults
    assert workers.startswith("serve.workers=0: ")
    assert "a server on a Unix socket is not supported" in host
    assert alias.startswith("serve.alias=3: ")
