"""Inference requests of the Open Inference Protocol, parsed into rows."""

import math
from dataclasses import dataclass
from typing import Any

from wineexp.serving.http.problems import Fault, key_faults, unprocessable
from wineexp.serving.model import strict_json
from wineexp.serving.model.rows import Row, RowParser
from wineexp.serving.model.strict_json import describe

NUMBER_DATATYPES = {"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
OUTPUT_DATATYPES = {"class": "BYTES", "probabilities": "FP64"}


@dataclass(frozen=True)
class InferenceRequest:
    """A parsed request.

    Attributes
    ----------
    rows : list of Row
    outputs : list of str
        Names of the requested outputs.
    id : str
        Of the client, empty where it sent none.
    """

    rows: list[Row]
    outputs: list[str]
    id: str


def parse_request(parser: RowParser, body: bytes) -> InferenceRequest:
    """Parse an inference request.

    Raises
    ------
    ProblemError
        400: it is not JSON. 422: it is no inference request, or rows are wrong; with all faults.
    """
    value = strict_json.decode(body)
    inputs = value.get("inputs") if isinstance(value, dict) else None
    n_features = len(parser.features)
    if not isinstance(inputs, list) or not inputs:
        raise unprocessable([Fault("an object is wanted, with an array `inputs` of tensors", "/inputs")])
    if len(inputs) > n_features:
        raise unprocessable([Fault(f"at most {n_features} tensors are wanted, got {len(inputs)}", "/inputs")])
    faults = key_faults(value, "", ("id", "parameters", "inputs", "outputs"))
    if not isinstance(value.get("id", ""), str):
        faults.append(Fault(f"a text is wanted, got {describe(value['id'])}", "/id"))
    columns: dict[str, list[Any]] = {}
    has_all_features = False
    for position, tensor in enumerate(inputs):
        pointer = f"/inputs/{position}"
        if fault := _tensor_fault(tensor, n_features, pointer):
            faults.append(fault)
        elif tensor["name"] in columns:
            faults.append(Fault(f"the tensor {describe(tensor['name'])} is given more than once", f"{pointer}/name"))
        else:
            columns[tensor["name"]] = _flatten(tensor["data"])
            has_all_features = has_all_features or _n_columns(tensor) > 1
    outputs, output_faults = _requested_outputs(value.get("outputs"))
    faults += output_faults
    lengths = {len(values) for values in columns.values()}
    if not faults and has_all_features and len(inputs) > 1:
        faults.append(Fault("one tensor of all features is wanted, or one for each", "/inputs"))
    if not faults and len(lengths) != 1:
        faults.append(Fault(f"tensors of one length are wanted, got {sorted(lengths)}", "/inputs"))
    if faults:
        raise unprocessable(faults)
    (length,) = lengths
    parser.check_row_count(length // n_features if has_all_features else length)
    if has_all_features:
        (values,) = columns.values()
        table = [dict(zip(parser.features, row, strict=True)) for row in _split(values, n_features)]
    else:
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return InferenceRequest(parser.parse_objects(table), outputs, value.get("id", ""))


def _tensor_fault(tensor: Any, n_features: int, pointer: str) -> Fault | None:
    """What is wrong with the form of an input tensor."""
    if not isinstance(tensor, dict) or not all(key in tensor for key in ("name", "shape", "datatype", "data")):
        return Fault("a tensor is wanted, with name, shape, datatype and data", pointer)
    if faults := key_faults(tensor, pointer, ("name", "shape", "datatype", "parameters", "data")):
        return faults[0]
    if not isinstance(tensor["name"], str):
        return Fault(f"a text is wanted, got {describe(tensor['name'])}", f"{pointer}/name")
    datatype, shape = tensor["datatype"], tensor["shape"]
    if datatype not in (*NUMBER_DATATYPES, "BOOL", "BYTES"):
        return Fault(f"one of {', '.join(sorted(NUMBER_DATATYPES))}, BOOL or BYTES is wanted", f"{pointer}/datatype")
    if not _is_shape(shape) or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (1, n_features)):
        return Fault(f"a shape of [rows], [rows, 1] or [rows, {n_features}] is wanted", f"{pointer}/shape")
    if not isinstance(tensor["data"], list) or len(_flatten(tensor["data"])) != math.prod(shape):
        return Fault("an array of as many values as the shape says is wanted", f"{pointer}/data")
    for value in _flatten(tensor["data"]) if "INT" in datatype else ():
        if isinstance(value, float) and (value % 1 or (value < 0 and datatype.startswith("U"))):
            return Fault(f"{describe(value)} is no {datatype}", f"{pointer}/data")
    return None


def _is_shape(value: Any) -> bool:
    """Whether a decoded value is an array of sizes; decoded JSON has floats only."""
    return isinstance(value, list) and all(type(size) is float and size >= 0 and size % 1 == 0 for size in value)


def _requested_outputs(value: Any) -> tuple[list[str], list[Fault]]:
    """Names of the requested outputs, all where the request names none, and what is wrong with them."""
    if value is None:
        return list(OUTPUT_DATATYPES), []
    entries = value if isinstance(value, list) else []
    names = [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]
    if not names or len(names) != len(entries) or not set(names) <= OUTPUT_DATATYPES.keys():
        return [], [Fault(f"an array of outputs is wanted, named {' or '.join(OUTPUT_DATATYPES)}", "/outputs")]
    return names, []


def _n_columns(tensor: Any) -> int:
    return int(tensor["shape"][1]) if len(tensor["shape"]) == 2 else 1


def _flatten(data: list[Any]) -> list[Any]:
    """A tensor's values, which may be nested by row."""
    return [value for item in data for value in (item if isinstance(item, list) else [item])]


def _split(values: list[Any], n_columns: int) -> list[list[Any]]:
    return [values[start : start + n_columns] for start in range(0, len(values), n_columns)]
