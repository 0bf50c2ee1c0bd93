"""The device that a model is trained on: the CPU, or a CUDA card, for the libraries that know one.

Predictions are computed on the CPU, whatever a model was trained on: a server has no card, and its predictions have the
bits of those that were scored.
"""

import copy
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from wineexp.models._cuda import first_card
from wineexp.models.arguments import estimators_within

CPU, CUDA = DEVICES = ("cpu", "cuda")

log = logging.getLogger(__name__)


class Argument(NamedTuple):
    """A model's argument that says the device: its names, the first of which is set, and its values for each device."""

    names: tuple[str, ...]
    cpu: str
    cuda: str


# By the package that a model is from.
ARGUMENTS = {
    "xgboost": Argument(("device",), cpu="cpu", cuda="cuda"),
    "lightgbm": Argument(("device_type", "device"), cpu="cpu", cuda="cuda"),
    "catboost": Argument(("task_type",), cpu="CPU", cuda="GPU"),
}


def device_faults(model: Any, device: str) -> list[str]:
    """Why a model cannot be trained on a device, one sentence each.

    Parameters
    ----------
    model : estimator
        Not fitted.
    device : str
        What the config says.
    """
    if device not in DEVICES:
        return [f"device={device}: one of {', '.join(DEVICES)} is wanted"]
    packages = {name: (_package(part), part) for name, part in estimators_within(model).items()}
    faults = [
        f"{name}.{argument}={value}: the key device=cuda says it for every model, refuses a card that is missing, and "
        "records the one that is used"
        for name, (package, part) in packages.items()
        if package
        for argument in ARGUMENTS[package].names
        if (value := part.get_params(deep=False).get(argument)) not in (None, ARGUMENTS[package].cpu)
    ]
    if faults or device == CPU:
        return faults
    known = sorted({package for package, _ in packages.values() if package})
    if not known:
        return [
            f"device=cuda: a {type(model).__name__} is trained on the CPU alone; choose model=xgb, catboost or "
            "lightgbm, or device=cpu"
        ]
    if first_card() is None:
        return ["device=cuda: no CUDA card is visible here; choose device=cpu, or a machine with a card and its driver"]
    return [fault for package in known if (fault := _build_fault(package))]


def on_device(model: Any, device: str) -> Any:
    """A copy of a model whose parts are trained on a device, as far as they know one; see `device_faults`."""
    if device == CPU:
        return model
    model = copy.deepcopy(model)
    for name, part in estimators_within(model).items():
        if package := _package(part):
            part.set_params(**{ARGUMENTS[package].names[0]: ARGUMENTS[package].cuda})
        elif not any(_package(inner) for inner in estimators_within(part).values()):
            kind = type(part).__name__
            log.info("%s, a %s, is trained on the CPU: only XGBoost, CatBoost and LightGBM know a card", name, kind)
    return model


def predicting_on_cpu(fitted: Any) -> Any:
    """A fitted estimator, whose parts of XGBoost, the only ones that would predict on a card, predict on the CPU."""
    for part in _fitted_parts(fitted):
        if _package(part) == "xgboost" and part.get_params().get("device") == CUDA:
            part.set_params(device=CPU)
    return fitted


def card_tags(device: str) -> dict[str, str]:
    """Tags of a run about the card that it is trained on; empty on the CPU, and where there is no card."""
    card = first_card() if device == CUDA else None
    return {} if card is None else {"machine.card": card.name, "machine.driver": card.driver, "machine.cuda": card.cuda}


def _package(model: Any) -> str:
    """The first of the packages of `ARGUMENTS` that a model's classes are from; empty where none is."""
    packages = (base.__module__.partition(".")[0] for base in type(model).__mro__)
    return next((package for package in packages if package in ARGUMENTS), "")


def _build_fault(package: str) -> str | None:
    """Why the installed build of a package cannot use the card that is here."""
    fault = BUILD_CHECKS[package]()
    return fault and f"device=cuda: {fault}; install a build with CUDA, or choose device=cpu"


def _xgboost_fault() -> str | None:
    import xgboost

    # Without CUDA, XGBoost would train on the CPU and say so in a warning alone.
    return None if xgboost.build_info().get("USE_CUDA") else f"XGBoost {xgboost.__version__} here is built without CUDA"


def _catboost_fault() -> str | None:
    from catboost.utils import get_gpu_device_count

    return None if get_gpu_device_count() else "CatBoost here sees no card that it can use"


def _lightgbm_fault() -> str | None:
    import lightgbm

    # It does not say how it was built: a model of a few rows shows it.
    rows = lightgbm.Dataset(np.arange(40.0)[:, None], np.arange(40) % 2)
    try:
        lightgbm.train({"device_type": "cuda", "verbosity": -1}, rows, num_boost_round=1)
    except lightgbm.basic.LightGBMError as error:
        return f"LightGBM {lightgbm.__version__} here cannot use CUDA ({str(error).splitlines()[0]})"
    return None


BUILD_CHECKS = {"xgboost": _xgboost_fault, "catboost": _catboost_fault, "lightgbm": _lightgbm_fault}


def _fitted_parts(value: Any) -> Iterator[Any]:
    """An estimator and the fitted ones that it holds in its attributes."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _fitted_parts(item)
    elif isinstance(value, dict):
        yield from _fitted_parts(list(value.values()))
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield value
        yield from _fitted_parts([held for name, held in vars(value).items() if name.endswith("_")])
