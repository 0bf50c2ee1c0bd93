"""A compiled form: read from its file as what nobody vouches for, and asked for probabilities."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import native
from wineexp.models.compiled.models import MODELS, XGBoost
from wineexp.models.compiled.steps import STEPS, Array, Arrays, Numbers, steps

# The name of its file, beside the model.
NAME = "compiled.npz"

# What a version says of itself that has one; any other says why it has none.
COMPILED = "compiled"

# Bytes that its arrays may take: what is packed small can be large.
MOST = 2**31

# What reading a file fails with that is no npz, is cut short, or lies about its sizes.
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError)

# The name of the array that holds the plan, as JSON.
PLAN = "plan"

# Rows that Python's objects become numbers of at once.
PIECE = 500

Row = Sequence[float | str]
Rows = Sequence[Row] | Numbers


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of text.

    Attributes
    ----------
    name : str
    words : list of str
        The categories, each of them with an indicator column.
    fill : str
        What a missing value is taken for.
    drop : str or None
        The category that has no indicator, of two.
    """

    name: str
    words: list[str]
    fill: str
    drop: str | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the arrays are for.

    Attributes
    ----------
    columns : list of str
        All features, in the order in which they are given.
    texts : list of Words
        Those that are texts; the others are numbers, and what becomes of them comes first.
    steps : list of str
        Keys of `STEPS`; their arrays are named by place.
    order : str
        `C` or `F`: how the matrix that the model gets lies in memory, which decides the last bits of its products.
    model : str
        A key of `MODELS`.
    classes : list of int or str
        Labels, in ascending order.
    present : list of int
        Places in it of the labels that the training rows held.
    """

    columns: list[str]
    texts: list[Words]
    steps: list[str]
    order: str
    model: str
    classes: list[int | str]
    present: list[int]


class Form:
    """A compiled pipeline.

    Parameters
    ----------
    plan : Plan
    arrays : mapping of str to ndarray

    Attributes
    ----------
    classes : list of int or str

    Raises
    ------
    UserError
        They are not what a compiled form is made of.
    """

    def __init__(self, plan: Plan, arrays: Mapping[str, Array]) -> None:
        self.plan = plan
        self.classes = plan.classes
        _check(plan)
        texts = {each.name: each for each in plan.texts}
        self._numbers = [place for place, name in enumerate(plan.columns) if name not in texts]
        self._texts = [(plan.columns.index(each.name), each) for each in plan.texts]
        self._steps, width = steps(plan.steps, arrays, len(self._numbers))
        width += sum(len(each.words) - (each.drop is not None) for each in plan.texts)
        self._model = MODELS[plan.model](Arrays(arrays, "model"), width, len(plan.present))
        self._row = self._single()
        # Most models have seen every class.
        self._whole = len(plan.present) == len(plan.classes)

    def _single(self) -> native.Row | None:
        """A faster way for a single row, where there is one."""
        model, first = self._model, self._steps[0] if len(self._steps) == 1 else None
        if self._texts or not isinstance(model, XGBoost) or not isinstance(first, native.Steps):
            return None
        present = self.plan.present
        fits = native.Row.fits(first, model.walk, present)
        return native.Row(first, model.walk, model.base, present, len(self.classes)) if fits else None

    def ask(self, rows: Rows) -> Numbers:
        """Probabilities (n_rows, n_classes) of rows with a value for each column; NaN, or None of a text, is missing.

        Raises
        ------
        ValueError
            The pipeline would refuse a value: it is infinite, becomes so, or is no category.
        """
        if self._row is not None and len(rows) == 1:
            return self._row(rows[0])
        if not self._texts:
            return self.model(self.features(_table(rows)))
        numbers = np.array([[row[place] for place in self._numbers] for row in rows], dtype=np.float64)
        indicators = [_indicators([row[place] for row in rows], words) for place, words in self._texts]
        return self.model(np.hstack([self.features(numbers), *indicators]))

    def features(self, values: Numbers) -> Numbers:
        """What the number columns (n_rows, n_numbers) become."""
        for step in self._steps:
            values = step(values)
        return values

    def model(self, X: Numbers) -> Numbers:
        """Probabilities (n_rows, n_classes) of what the features became."""
        given = self._model(np.asarray(X, order=self.plan.order))  # type: ignore[call-overload]
        given /= given.sum(axis=1, keepdims=True)
        if self._whole:
            return given
        found = np.zeros((len(given), len(self.classes)))
        found[:, self.plan.present] = given
        return found


def _table(rows: Rows) -> Numbers:
    """Rows of numbers as a table, in pieces: while one is made, no other thread has its turn."""
    if len(rows) <= PIECE or isinstance(rows, np.ndarray):
        return np.array(rows, dtype=np.float64)
    return np.concatenate([_table(rows[start : start + PIECE]) for start in range(0, len(rows), PIECE)])


def read(content: bytes) -> Form:
    """The compiled form in a file's bytes.

    Raises
    ------
    UserError
        It is none, or no whole one.
    """
    return Form(*unpack(content))


def unpack(content: bytes) -> tuple[Plan, dict[str, Array]]:
    """The plan and the arrays in a file's bytes; what they hold is checked by the `Form` that is made of them.

    Raises
    ------
    UserError
        It is no such file, or no whole one.
    """
    arrays = _unpacked(content)
    try:
        return msgspec.json.decode(arrays.pop(PLAN).tobytes(), type=Plan), arrays
    except (KeyError, msgspec.MsgspecError) as error:
        raise UserError(f"{NAME} has no plan that can be read ({error}); it is refused") from error


def write(plan: Plan, arrays: Mapping[str, Array]) -> bytes:
    """A compiled form as a file's bytes."""
    file = io.BytesIO()
    told: dict[str, Any] = {PLAN: np.frombuffer(msgspec.json.encode(plan), dtype=np.uint8)}
    np.savez_compressed(file, allow_pickle=False, **told, **arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > MOST:
            raise UserError(f"{NAME} holds {size} bytes of arrays, more than the {MOST} that are let in; it is refused")
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{NAME} is no whole file of arrays ({type(error).__name__}: {reason}); it is refused"
        ) from error


def _check(plan: Plan) -> None:
    faults = [f"step {kind} is unknown" for kind in plan.steps if kind not in STEPS]
    if plan.model not in MODELS:
        faults.append(f"model {plan.model} is unknown")
    if plan.order not in ("C", "F"):
        faults.append(f"order {plan.order} is neither C nor F")
    if len(set(plan.columns)) < len(plan.columns) or not plan.columns:
        faults.append("columns are missing or named twice")
    if sorted(set(plan.present)) != plan.present or not all(0 <= each < len(plan.classes) for each in plan.present):
        faults.append("present names what is no class")
    for each in plan.texts:
        known = {*each.words}
        if each.name not in plan.columns or each.fill not in known or (each.drop or each.fill) not in known:
            faults.append(f"text {each.name} is no column, or its words lack one that it needs")
    if not plan.present:
        faults.append("present is empty")
    if faults:
        raise UserError(*(f"the plan of its compiled form is none: {fault}" for fault in faults))


def _indicators(values: list[Any], words: Words) -> Numbers:
    """One column for each category but the one that is left out: (n_rows, n_words)."""
    places = {word: place for place, word in enumerate(words.words)}
    try:
        # A missing value is None, or NaN, which equals nothing.
        codes = [places[words.fill if value is None or value != value else value] for value in values]
    except KeyError as error:
        raise ValueError(f"{error} is no value of {words.name}") from error
    kept = [place for word, place in places.items() if word != words.drop]
    found: Numbers = (np.array(codes)[:, None] == np.array(kept)[None, :]).astype(np.float64)
    return found
