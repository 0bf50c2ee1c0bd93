"""Serve a registered model: `python -m wineexp.serve registry.name=wine serve.alias=champion`."""

import re

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import CHALLENGER_MODES, SHADOW, Serve, Server
from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.program import program

# The least values of settings that are whole numbers.
MINIMA = {"workers": 1, "max_rows": 1, "max_body_bytes": 1, "max_concurrent_requests": 1, "port": 0}


# A name of a header, as RFC 9110 has it.
HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

DURATIONS = (
    "poll_interval_seconds",
    "verifier_idle_timeout_seconds",
    "request_timeout_seconds",
    "keep_alive_seconds",
    "shutdown_timeout_seconds",
)


@program(Serve)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> None:
    """Check the settings, then serve until SIGTERM or Ctrl-C."""
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Serve), cfg))
    assert isinstance(settings, Serve)  # noqa: S101  for mypy
    if settings.tracking.uri is None and settings.serve.export_folder is None:
        raise UserError(
            "tracking=off: a server needs an MLflow store with registered versions, or an exported version; choose "
            "tracking=local or tracking=server, or set serve.export_folder=FOLDER"
        )
    check(settings.serve)

    from wineexp.serving import server

    server.run(settings)


def check(server: Server) -> None:
    """Check the values of the settings.

    Raises
    ------
    UserError
        With all faults.
    """
    faults = [
        f"serve.{name}={getattr(server, name)}: {name} must be at least {minimum}"
        for name, minimum in MINIMA.items()
        if getattr(server, name) < minimum
    ]
    faults += [
        f"serve.{name}={getattr(server, name)}: {name} must be more than 0 seconds"
        for name in DURATIONS
        if not getattr(server, name) > 0
    ]
    if not 0 < server.log_rate <= 1:
        faults.append(f"serve.log_rate={server.log_rate}: 0 < log_rate <= 1 must hold; serve.log=null logs nothing")
    faults += [
        f"serve.{name}={value}: {name} must be more than 0, or null for no limit"
        for name, value in (("log_max_days", server.log_max_days), ("log_max_bytes", server.log_max_bytes))
        if value is not None and not value > 0
    ]
    faults += challenger_faults(server)
    if server.log is not None:
        from wineexp.monitoring import prediction_log

        try:
            prediction_log.check_address("serve.log", server.log)
        except UserError as error:
            faults += error.faults
    if server.host.startswith("unix:") or "/" in server.host:
        faults.append(
            f"serve.host={server.host}: a host name or an address is wanted, such as 127.0.0.1; a server on a Unix "
            "socket is not supported, let a proxy listen there"
        )
    if server.otlp_endpoint is not None and not server.otlp_endpoint.startswith(("http://", "https://")):
        faults.append(
            f"serve.otlp_endpoint={server.otlp_endpoint}: a URL with http:// or https:// is wanted, such as "
            "http://localhost:4318"
        )
    if server.alias.isdecimal():
        faults.append(
            f"serve.alias={server.alias}: a version's number is no alias; set an alias to the version and give its name"
        )
    if faults:
        raise UserError(*faults)


def challenger_faults(server: Server) -> list[str]:
    """What is wrong with the settings of a challenger."""
    faults = []
    if server.challenger_mode not in CHALLENGER_MODES:
        faults.append(
            f"serve.challenger_mode={server.challenger_mode}: {did_you_mean(server.challenger_mode, CHALLENGER_MODES)}"
        )
    if not 0 < server.share < 1:
        faults.append(f"serve.share={server.share}: 0 < share < 1 must hold; serve.challenger=null tests no version")
    if server.unit is not None and not re.fullmatch(HEADER, server.unit):
        faults.append(f"serve.unit={server.unit}: the name of a request header is wanted, such as X-Customer")
    if server.challenger is None:
        return faults
    if server.challenger.isdecimal() or server.challenger == server.alias:
        faults.append(
            f"serve.challenger={server.challenger}: another alias than serve.alias={server.alias} is wanted, such as "
            "challenger"
        )
    if server.export_folder is not None:
        faults.append("serve.challenger: an exported version is served without a registry, and so has no challenger")
    if server.log is None and server.challenger_mode == SHADOW:
        faults.append(
            "serve.challenger: what a challenger answers in the shadow is only logged, and serve.log=null logs "
            "nothing; give a folder, such as serve.log=outputs/predictions"
        )
    return faults


if __name__ == "__main__":
    main()
