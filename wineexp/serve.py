"""Serve a registered model: `python -m wineexp.serve registry.name=wine serve.alias=champion`."""

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Serve, Server
from wineexp.core.errors import UserError
from wineexp.core.program import program


@program(Serve)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> None:
    """Check the settings, then serve until SIGTERM or Ctrl-C."""
    settings = OmegaConf.to_object(cfg)
    assert isinstance(settings, Serve)  # noqa: S101  for mypy: the frame is what composes it
    if settings.tracking.uri is None and settings.serve.export_folder is None:
        raise UserError(
            "tracking=off: a server needs the store that holds its versions, or a version that was exported; choose "
            "tracking=local or server, or say serve.export_folder=FOLDER"
        )
    check(settings.serve)

    from wineexp.serving import server

    server.run(settings)


def check(server: Server) -> None:
    """Hold the settings against what makes sense.

    Raises
    ------
    UserError
        With all faults.
    """
    faults = [
        f"serve.{name}={getattr(server, name)}: {name} must be at least {least}"
        for name, least in {
            "workers": 1,
            "max_rows": 1,
            "max_body_bytes": 1,
            "max_concurrent_requests": 1,
            "port": 0,
        }.items()
        if getattr(server, name) < least
    ]
    faults += [
        f"serve.{name}={getattr(server, name)}: {name} must be more than 0 seconds"
        for name in (
            "poll_interval_seconds",
            "verifier_idle_timeout_seconds",
            "request_timeout_seconds",
            "shutdown_timeout_seconds",
        )
        if not getattr(server, name) > 0
    ]
    if server.alias.isdecimal():
        faults.append(f"serve.alias={server.alias}: a version is no alias; set one to it, and name that")
    if faults:
        raise UserError(*faults)


if __name__ == "__main__":
    main()
