"""Objects from configs: every `_target_` and its arguments are checked before anything is instantiated."""

import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wineexp.core import _sklearn
from wineexp.core.bounds import bound_fault
from wineexp.core.errors import UserError, did_you_mean

# Arguments that a callable takes through `**kwargs` and documents, although its signature does not name them.
UNNAMED_ARGUMENTS = {"lightgbm.LGBMClassifier": ["verbosity"], "lightgbm.LGBMRegressor": ["verbosity"]}


def build(cfg: DictConfig) -> dict[str, Any]:
    """Instantiate every group of a config that has a `_target_`, after checking all of them.

    Returns
    -------
    dict of str to object
        By group. `data` is a callable without arguments, because loading the data takes time.

    Raises
    ------
    UserError
        A group has no choice, or an argument is unknown, missing or of the wrong type; it lists all such faults.
    """
    if missing := [str(name) for name in cfg if OmegaConf.is_missing(cfg, name) or cfg[name] is None]:
        raise UserError(*(f"{name}: nothing is chosen; --help lists the choices of {name}=..." for name in missing))
    nodes = {str(name): node for name, node in cfg.items() if isinstance(node, DictConfig) and "_target_" in node}
    faults = [fault for name, node in nodes.items() for fault in check_node(name, node)]
    if faults:
        raise UserError(*faults)
    objects = {}
    for name, node in nodes.items():
        try:
            if name == "data":
                objects[name] = instantiate(node, _convert_="all", _partial_=True)
            else:
                objects[name] = instantiate(node, _convert_="all")
                faults += _contract_faults(f"{name}._target_={node['_target_']}", objects[name])
        except InstantiationException as error:
            cause = error.__cause__ or error
            faults += cause.faults if isinstance(cause, UserError) else [f"{name}: {' '.join(str(cause).split())}"]
    if faults:
        raise UserError(*faults)
    return objects


def _contract_faults(name: str, built: Any) -> list[str]:
    """The fault of an estimator that scikit-learn cannot copy, since its constructor does not store its arguments."""
    try:
        if hasattr(built, "get_params"):
            built.get_params()
    except (AttributeError, RuntimeError) as error:
        rule = "scikit-learn copies an estimator by its arguments, so that its constructor must name each of them"
        return [f"{name}: {rule} and store it under its name: {' '.join(str(error).split())}"]
    return []


def check_node(name: str, node: DictConfig) -> list[str]:
    """Faults of a config node with a `_target_`, and of the nodes nested in it, one sentence each.

    Parameters
    ----------
    name : str
        The node's dotted key, with which each sentence begins.
    node : DictConfig
    """
    return list(_node_faults(name, OmegaConf.to_container(node, resolve=True)))


def _node_faults(name: str, node: Any) -> Iterator[str]:
    path = node["_target_"]
    try:
        target = find_callable(path)
    except UserError as error:
        yield from (f"{name}._target_={path}: {fault}" for fault in error.faults)
        return
    parameters = _named_parameters(target)
    arguments = {key: value for key, value in node.items() if not key.startswith("_")}
    for key, value in arguments.items():
        if key in UNNAMED_ARGUMENTS.get(path, []):
            continue
        if key not in parameters:
            yield f"{name}.{key}={value}: {path} has no such argument; {did_you_mean(key, parameters)}"
        elif nodes := dict(_nodes_within(f"{name}.{key}", value)):
            for child, child_node in nodes.items():
                yield from _node_faults(child, child_node)
        elif fault := _argument_fault(target, key, value):
            yield f"{name}.{key}={value}: {fault}"
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments and not node.get("_partial_"):
            yield f"{name}.{key} is missing: {path} needs it"


def _nodes_within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """An argument's nodes with a `_target_`, by their dotted keys.

    An ensemble takes a mapping of estimators by name, a Pipeline of scikit-learn a list of pairs of name and estimator.
    """
    if _has_target(value):
        yield name, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _nodes_within(f"{name}.{key}", child)


def find_callable(path: str) -> Any:
    """The class or function of a dotted name.

    Raises
    ------
    UserError
        There is none; the sentence does not repeat the name.
    """
    package = str(path).partition(".")[0]
    if package.isidentifier() and importlib.util.find_spec(package) is None:
        remedy = "pip install '.[boost]' installs the optional ones; one of your own must lie in a folder on PYTHONPATH"
        raise UserError(f"there is no package {package} here; {remedy}")
    try:
        # A partial object calls nothing, and Hydra still refuses the targets that it considers dangerous.
        return instantiate({"_target_": path, "_partial_": True}).func
    except Exception as error:
        if package == "wineexp" and _is_about_missing_name(error):
            raise UserError(
                "wineexp has no such class or function. An earlier version may have had it: a config that such a "
                "version recorded cannot be built any more, its model must be trained anew"
            ) from error
        raise UserError(" ".join(str(error.__cause__ or error).split())) from error


def _has_target(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _is_about_missing_name(error: BaseException) -> bool:
    """Whether a failed look-up of a `_target_` of wineexp ended at a module or attribute that does not exist."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError):
        return str(error.name).startswith("wineexp.")
    return isinstance(error, AttributeError)


def _named_parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of a callable; a class whose constructor passes `**kwargs` on also has those of its bases."""
    if not inspect.isclass(target):
        signatures = [inspect.signature(target)]
    else:
        signatures = []
        for base in target.__mro__:
            if "__init__" in vars(base):
                signatures.append(inspect.signature(vars(base)["__init__"]))
                if not any(p.kind is p.VAR_KEYWORD for p in signatures[-1].parameters.values()):
                    break
    named_kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        named = {key: p for key, p in signature.parameters.items() if p.kind in named_kinds and key != "self"}
        parameters = named | parameters
    return parameters


def _argument_fault(target: Any, key: str, value: Any) -> str | None:
    """Why a value cannot be an argument: by the constraint that scikit-learn declares, or by annotation and bounds."""
    if _sklearn.declares_constraint(target, key):
        return _sklearn.constraint_violation(target, key, value)
    import typeguard

    annotation = _annotations(target).get(key, Any)
    try:
        typeguard.check_type(value, annotation)
    except typeguard.TypeCheckError:
        expected = inspect.formatannotation(annotation).replace("typing.", "")
        return f"{expected} is wanted, but got {type(value).__name__}"
    return bound_fault(target, key, value)


def _annotations(target: Any) -> dict[str, Any]:
    annotations: dict[str, Any] = {}
    constructors = [
        vars(base)["__init__"] for base in reversed(getattr(target, "__mro__", ())) if "__init__" in vars(base)
    ]
    for source in constructors or [target]:
        try:
            annotations |= get_type_hints(source)
        except NameError:
            # The annotation names something that is imported for type checkers only, and so cannot be checked here.
            continue
    return annotations
