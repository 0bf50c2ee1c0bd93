"""Requests and responses of the Open Inference Protocol: tensors as JSON, or as bytes after the JSON.

The bytes are the extension for binary tensor data, which the clients of Triton use by default. A
tensor's bytes have no place in the JSON; their number is its parameter `binary_data_size`, and they follow in the
tensors' order.
"""

import struct
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.data.schema import Schema
from wineexp.serving.http.problems import Fault, key_faults, unprocessable
from wineexp.serving.model import strict_json
from wineexp.serving.model.rows import RowParser, Rows
from wineexp.serving.model.strict_json import Value, describe

# The numpy types of the numbers' bytes, which are little-endian.
NUMBER_DTYPES = {
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
DATATYPES = (*sorted(NUMBER_DTYPES), "BOOL", "BYTES")
OUTPUT_DATATYPES = {"class": "BYTES", "probabilities": "FP64", "prediction": "FP64", "interval": "FP64"}

TENSOR_KEYS = ("name", "shape", "datatype", "parameters", "data")
# Values in the parts of a request beside the data: far more than any has.
MAX_PARAMETERS = 1000

# A tensor's values: numbers as they came in bytes, or decoded values.
Values = list[Any] | npt.NDArray[Any]


def output_datatypes(schema: Schema) -> dict[str, str]:
    """The datatype of each output of a model, by its name."""
    of_numbers = ["prediction", "interval"] if schema.intervals else ["prediction"]
    names = of_numbers if schema.numbers else ["class", "probabilities"]
    return {name: OUTPUT_DATATYPES[name] for name in names}


@dataclass(frozen=True)
class ParsedOutput:
    """An output that a request names, and whether its values are wanted as bytes."""

    name: str
    is_binary: bool


@dataclass(frozen=True)
class ParsedRequest:
    """A parsed request.

    Attributes
    ----------
    rows : Rows
    outputs : list of ParsedOutput
        Each at most once.
    id : str
        Of the client, empty where it sent none.
    """

    rows: Rows
    outputs: list[ParsedOutput]
    id: str


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """Values in row-major order; where they are wanted as bytes, their number is in `parameters`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class InferenceResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to an inference request, with its id."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


@dataclass(frozen=True)
class _Tensor:
    name: str
    n_columns: int
    values: Values


class _Bytes:
    """The bytes after the JSON, which the tensors take one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, size: int) -> bytes:
        part = self._content[self._position : self._position + size]
        self._position += size
        return part

    def fault(self) -> Fault | None:
        """What is wrong if the tensors did not take all of them, and no more."""
        if self._position == len(self._content):
            return None
        return Fault(f"{self._position} bytes of binary data are wanted after the JSON, got {len(self._content)}")


def parse_request(parser: RowParser, model_name: str, json_bytes: int | None, body: bytes) -> ParsedRequest:
    """Parse an inference request.

    Parameters
    ----------
    parser : RowParser
    model_name : str
        Of the path.
    json_bytes : int or None
        How long the JSON is at the body's beginning; None where there is nothing else.
    body : bytes

    Raises
    ------
    ProblemError
        400: it is not JSON. 422: it is no inference request, or rows are wrong; with all faults.
    """
    head = strict_json.read(body if json_bytes is None else body[:json_bytes])
    binary = _Bytes(b"" if json_bytes is None else body[json_bytes:])
    fields = head.members() if head.is_object else {}
    n_features = len(parser.features)
    inputs = list(islice(fields["inputs"].elements(), n_features + 1)) if _is_array(fields.get("inputs")) else []
    if not inputs:
        raise unprocessable([Fault("an object is wanted, with an array `inputs` of tensors", "/inputs")])
    if len(inputs) > n_features:
        raise unprocessable([Fault(f"at most {n_features} tensors are wanted, one for each feature", "/inputs")])
    faults = key_faults(fields, "", ("id", "model_name", "parameters", "inputs", "outputs"))
    rest = {key: value.decode(MAX_PARAMETERS) for key, value in fields.items() if key != "inputs"}
    if not isinstance(rest.get("id", ""), str):
        faults.append(Fault(f"a text is wanted, got {describe(rest['id'])}", "/id"))
    if not isinstance(rest.get("parameters", {}), dict):
        faults.append(Fault(f"an object is wanted, got {describe(rest['parameters'])}", "/parameters"))
    if rest.get("model_name", model_name) != model_name:
        message = f"the path names the model {model_name}, the body {describe(rest['model_name'])}"
        faults.append(Fault(message, "/model_name"))
    names = list(output_datatypes(parser.schema))
    outputs, output_faults = _requested_outputs(names, rest.get("outputs"), rest.get("parameters"))
    faults += output_faults
    tensors: dict[str, _Tensor] = {}
    for position, value in enumerate(inputs):
        tensor = _parse_tensor(parser, value, binary, f"/inputs/{position}")
        if isinstance(tensor, Fault):
            faults.append(tensor)
        elif tensor.name in tensors:
            message = f"the tensor {describe(tensor.name)} is given more than once"
            faults.append(Fault(message, f"/inputs/{position}/name"))
        else:
            tensors[tensor.name] = tensor
    if not faults and (fault := binary.fault() or _combination_fault(list(tensors.values()))):
        faults.append(fault)
    if faults:
        raise unprocessable(faults)
    return ParsedRequest(_rows(parser, list(tensors.values())), outputs, rest.get("id", ""))


def encode_response(
    model_name: str, model_version: str, request_id: str, outputs: list[ParsedOutput], values: dict[str, Any]
) -> tuple[bytes, int | None]:
    """The response to a request.

    Parameters
    ----------
    model_name, model_version, request_id : str
    outputs : list of ParsedOutput
    values : dict
        Arrays of shape (n_rows, n_columns) by the name of the output: of texts, or of numbers.

    Returns
    -------
    body : bytes
    json_bytes : int or None
        How long the JSON is at the body's beginning; None where there is nothing else.
    """
    tensors, parts = [], []
    for output in outputs:
        array = values[output.name]
        tensor = OutputTensor(output.name, OUTPUT_DATATYPES[output.name], list(array.shape))
        if output.is_binary:
            texts = OUTPUT_DATATYPES[output.name] == "BYTES"
            part = b"".join(map(_with_length, array.ravel().tolist())) if texts else array.astype("<f8").tobytes()
            tensor.parameters = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            tensor.data = array.ravel().tolist()
        tensors.append(tensor)
    head = msgspec.json.encode(InferenceResponse(model_name, model_version, tensors, request_id))
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _is_array(value: Value | None) -> bool:
    return value is not None and value.is_array


def _parse_tensor(parser: RowParser, value: Value, binary: _Bytes, pointer: str) -> _Tensor | Fault:
    """An input tensor, or what is wrong with it."""
    fields = value.members() if value.is_object else {}
    if not all(key in fields for key in ("name", "shape", "datatype")):
        return Fault("a tensor is wanted, with name, shape, datatype and data", pointer)
    if faults := key_faults(fields, pointer, TENSOR_KEYS):
        return faults[0]
    name, shape, datatype = (fields[key].decode(MAX_PARAMETERS) for key in ("name", "shape", "datatype"))
    n_features = len(parser.features)
    if not isinstance(name, str):
        return Fault(f"a text is wanted, got {describe(name)}", f"{pointer}/name")
    if datatype not in DATATYPES:
        return Fault(f"one of {', '.join(DATATYPES)} is wanted", f"{pointer}/datatype")
    if not _is_shape(shape) or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (1, n_features)):
        return Fault(f"a shape of [rows], [rows, 1] or [rows, {n_features}] is wanted", f"{pointer}/shape")
    n_rows, n_columns = int(shape[0]), int(shape[1]) if len(shape) == 2 else 1
    parser.check_row_count(n_rows)
    size = n_rows * n_columns
    parameters = fields["parameters"].decode(MAX_PARAMETERS) if "parameters" in fields else {}
    if not isinstance(parameters, dict):
        return Fault(f"an object is wanted, got {describe(parameters)}", f"{pointer}/parameters")
    n_bytes = parameters.get("binary_data_size")
    if ("data" in fields) is (n_bytes is not None):
        return Fault("either data, or the parameter binary_data_size and bytes after the JSON, are wanted", pointer)
    if n_bytes is not None:
        if not _is_shape([n_bytes]):
            message = f"a number of bytes is wanted, got {describe(n_bytes)}"
            return Fault(message, f"{pointer}/parameters/binary_data_size")
        values = _from_bytes(binary.take(int(n_bytes)), datatype)
    else:
        values = _from_json(fields["data"], datatype, size)
    if isinstance(values, str):
        return Fault(values, f"{pointer}/data")
    if len(values) != size:
        return Fault(f"as many values as the shape says, {size}, are wanted", f"{pointer}/data")
    return _Tensor(name, n_columns, values)


def _is_shape(value: Any) -> bool:
    """Whether a decoded value is an array of sizes; decoded JSON has floats only."""
    return isinstance(value, list) and all(type(size) is float and size >= 0 and size % 1 == 0 for size in value)


def _from_json(data: Value, datatype: str, size: int) -> Values | str:
    """The values of a tensor's JSON, or what is wrong with them; none where they are far more than `size`."""
    if not data.is_array:
        return "an array of values is wanted"
    # A comma after each, and a bracket for each row.
    if data.has_more_than(size + 1, b"["):
        return []
    values = [
        value
        for item in data.decode(2 * size + MAX_PARAMETERS)
        for value in (item if isinstance(item, list) else [item])
    ]
    for value in values if "INT" in datatype else ():
        if isinstance(value, float) and (value % 1 or (value < 0 and datatype.startswith("U"))):
            return f"{describe(value)} is no {datatype}"
    return values


def _from_bytes(content: bytes, datatype: str) -> Values | str:
    """The values in a tensor's bytes, or what is wrong with them."""
    if datatype in NUMBER_DTYPES:
        dtype = np.dtype(NUMBER_DTYPES[datatype])
        if len(content) % dtype.itemsize:
            return f"{len(content)} bytes are no whole number of {datatype}"
        return np.frombuffer(content, dtype)
    if datatype == "BOOL":
        return [byte != 0 for byte in content]
    texts, position = [], 0
    while position < len(content):
        try:
            (length,) = struct.unpack_from("<I", content, position)
            text = content[position + 4 : position + 4 + length]
            texts.append(text.decode())
        except (struct.error, UnicodeDecodeError):
            return "each value of BYTES is wanted as its length, in four bytes, and a text in UTF-8"
        position += 4 + length
    return texts if position == len(content) else "the last value of BYTES is shorter than its length says"


def _with_length(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<I", len(content)) + content


def _requested_outputs(known: list[str], value: Any, parameters: Any) -> tuple[list[ParsedOutput], list[Fault]]:
    """The requested outputs, all where the request names none, and what is wrong with them."""
    all_binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    if value is None:
        return [ParsedOutput(name, all_binary) for name in known], []
    entries = value if isinstance(value, list) else []
    names = [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]
    is_each_an_output = len(names) == len(entries) and set(names) <= set(known)
    if not names or not is_each_an_output or len(set(names)) < len(names):
        wanted = " or ".join(known)
        return [], [Fault(f"an array of outputs is wanted, each once, named {wanted}", "/outputs")]
    outputs, faults = [], []
    for position, (name, entry) in enumerate(zip(names, entries, strict=True)):
        own = entry.get("parameters", {})
        if not isinstance(own, dict):
            faults.append(Fault(f"an object is wanted, got {describe(own)}", f"/outputs/{position}/parameters"))
            continue
        outputs.append(ParsedOutput(name, own.get("binary_data", all_binary) is True))
        if "classification" in own:
            message = "this server does not rank classes; the output probabilities has them in the model's order"
            faults.append(Fault(message, f"/outputs/{position}/parameters/classification"))
    return outputs, faults


def _combination_fault(tensors: list[_Tensor]) -> Fault | None:
    """What is wrong with tensors that are right one by one."""
    if len(tensors) > 1 and any(tensor.n_columns > 1 for tensor in tensors):
        return Fault("one tensor of all features is wanted, or one for each", "/inputs")
    lengths = {len(tensor.values) for tensor in tensors}
    return Fault(f"tensors of one length are wanted, got {sorted(lengths)}", "/inputs") if len(lengths) > 1 else None


def _rows(parser: RowParser, tensors: list[_Tensor]) -> Rows:
    """The rows of tensors of one length: one for each feature, or one of all features."""
    names = list(parser.features)
    n_columns = tensors[0].n_columns
    has_all_features = n_columns == len(names) > 1
    if not parser.text_features and (has_all_features or {tensor.name for tensor in tensors} == {*names}):
        numbers = [tensor.values for tensor in tensors if isinstance(tensor.values, np.ndarray)]
        if len(numbers) == len(tensors):
            by_name = {tensor.name: tensor.values for tensor in tensors}
            ordered = (
                numbers[0].reshape(-1, n_columns) if has_all_features else np.stack([by_name[n] for n in names], 1)
            )
            table = ordered.astype(np.float64)
            # The others are refused below, by row.
            if not np.isinf(table).any():
                return table
    columns = [_missing_as_none(tensor.values) for tensor in tensors]
    if has_all_features:
        columns, keys = [columns[0][start::n_columns] for start in range(n_columns)], names
    else:
        keys = [tensor.name for tensor in tensors]
    return parser.parse_objects(dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True))


def _missing_as_none(values: Values) -> list[Any]:
    """A tensor's values, of which NaN stands for a missing one where they came as bytes."""
    if isinstance(values, list):
        return values
    return [None if value != value else float(value) for value in values.tolist()]
