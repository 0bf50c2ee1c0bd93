"""The file of a compiled model: a plan, which says what the model computes, and the arrays that it computes with."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled.arrays import Array
from wineexp.models.manifest import COMPILED_MODEL_FILE

# What a version that is served compiled says of itself; any other version says why it is not compiled.
COMPILED = "compiled"

# A small file may unpack to arrays of any size: larger ones than this are not unpacked.
MAX_ARRAY_BYTES = 2**31

# Raised where a file is no npz file, is cut short, or states wrong sizes.
READ_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError)

# The array that holds the plan as JSON.
PLAN_ARRAY = "plan"


class TextColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of text.

    Attributes
    ----------
    name : str
    categories : list of str
        Each has an indicator column, but for the dropped one.
    fill : str
        The category that a missing value is replaced by.
    dropped : str or None
        The category without an indicator column, where the encoder drops one.
    """

    name: str
    categories: list[str]
    fill: str
    dropped: str | None = None


class EncodedColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of text that becomes numbers.

    Attributes
    ----------
    name : str
    categories : list of str
        The array `encoded0.values` of the first such column, and likewise of the others, has a row of numbers for each
        of them, and a last one for a value that is missing or none of them.
    """

    name: str
    categories: list[str]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A classifier, a regressor, or the scores of a classifier: the model of a plan, or a model within another one.

    Attributes
    ----------
    kind : str
        A key of `CLASSIFIERS`, `SCORES` or `REGRESSORS`, or of one of those that have members.
    members : list of Part
        Models within it. The arrays of the first are named `member0.*`, after the name of this one and a dot.
    transformers : list of str
        Of the kind `pipeline` alone: keys of `TRANSFORMERS`; the arrays of the first are named `transformer0.*`,
        likewise.
    memory_order : str
        Of the kind `pipeline` alone: `C` or `F`, of the matrix that its member gets.
    """

    kind: str
    members: list["Part"] = []
    transformers: list[str] = []
    memory_order: str = "C"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a compiled model computes.

    Attributes
    ----------
    columns : list of str
        All features, in the order of a row's values.
    text_columns : list of TextColumn
    encoded_columns : list of EncodedColumn
        All other columns are numbers; the matrix has their transformed columns first, then the indicators, and then the
        numbers that texts become.
    transformers : list of str
        Keys of `TRANSFORMERS`, for the number columns; the arrays of the first are named `transformer0.*`.
    memory_order : str
        `C` or `F`, of the matrix that the classifier or regressor gets: it decides the last bits of matrix products.
    classifier : str
        A kind of classifier, as of `Part`; its arrays are named `classifier.*`. Empty where numbers are predicted.
    classes : list of int or str
        Labels, in ascending order; none where numbers are predicted.
    present : list of int
        Positions in `classes` of the labels in the training rows.
    regressor : str
        A kind of regressor, as of `Part`; its arrays are named `regressor.*`. Empty where classes are predicted.
    undone : str
        A key of `UNDONE`: the transform of the target that the regressor has learned; its arrays are named `undone.*`.
    costs : list of n_classes lists of n_classes float
        What it costs to decide on the inner list's class where the outer list's class is true; none where no costs
        decide.
    members : list of Part
        Models within the classifier or regressor.
    model_transformers : list of str
    model_memory_order : str
        The transformers and the memory order of a classifier or regressor of the kind `pipeline`, as of `Part`.
    utility : list of n_present lists of n_present float
        What the model has learned for its decisions among the classes in the training rows, where no costs decide: see
        `wineexp.evaluation.predictions.best_decisions`. None where it decides on the likeliest class.
    set_thresholds : list of n_present float
        From which probability on each class in the training rows is in the prediction set; none without such sets.
    """

    columns: list[str]
    text_columns: list[TextColumn]
    encoded_columns: list[EncodedColumn]
    transformers: list[str]
    memory_order: str
    classifier: str
    classes: list[int | str]
    present: list[int]
    regressor: str = ""
    undone: str = ""
    costs: list[list[float]] = []
    members: list[Part] = []
    model_transformers: list[str] = []
    model_memory_order: str = "C"
    utility: list[list[float]] = []
    set_thresholds: list[float] = []

    @property
    def model(self) -> Part:
        """The classifier or regressor."""
        kind = self.regressor or self.classifier
        return Part(kind, self.members, self.model_transformers, self.model_memory_order)

    @property
    def model_arrays(self) -> str:
        """The first part of the names of the classifier's or regressor's arrays."""
        return "regressor" if self.regressor else "classifier"

    @property
    def text_names(self) -> list[str]:
        """Names of the columns of text: those of `text_columns`, and then those of `encoded_columns`."""
        return [*(column.name for column in self.text_columns), *(column.name for column in self.encoded_columns)]


def pack(plan: Plan, arrays: Mapping[str, Array]) -> bytes:
    """A compiled model as the bytes of its file."""
    file = io.BytesIO()
    plan_array: dict[str, Any] = {PLAN_ARRAY: np.frombuffer(msgspec.json.encode(plan), dtype=np.uint8)}
    np.savez_compressed(file, allow_pickle=False, **plan_array, **arrays)
    return file.getvalue()


def unpack(content: bytes) -> tuple[Plan, dict[str, Array]]:
    """The plan and the arrays in the bytes of a file; `CompiledModel` checks what they hold.

    Raises
    ------
    UserError
        The file is of another kind, cut short, or too large.
    """
    arrays = _read_arrays(content)
    try:
        return msgspec.json.decode(arrays.pop(PLAN_ARRAY).tobytes(), type=Plan), arrays
    except (KeyError, RecursionError, msgspec.MsgspecError) as error:
        raise UserError(
            f"{COMPILED_MODEL_FILE} has no plan of a compiled model that this wineexp can read ({error}); a version "
            "that wineexp 0.1 stored must be promoted anew"
        ) from error


def _read_arrays(content: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
        if n_bytes > MAX_ARRAY_BYTES:
            raise UserError(
                f"{COMPILED_MODEL_FILE} holds {n_bytes} bytes of arrays, but at most {MAX_ARRAY_BYTES} are allowed; it "
                "is refused"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{COMPILED_MODEL_FILE} is no whole file of arrays ({type(error).__name__}: {reason}); it is refused"
        ) from error
