"""Files of compiled models that are damaged, or made to do harm, are refused, or predict and nothing else."""

import contextlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models.compiled.conftest import Arrays
from wineexp.core.errors import UserError
from wineexp.models.compiled import compiled_model
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.file_format import EncodedColumn, Plan, TextColumn, pack, unpack

MakeFile = Callable[[Plan, Arrays], bytes]


def with_arrays(change: Callable[[Arrays], Any]) -> MakeFile:
    """A file whose arrays were changed."""

    def make(plan: Plan, arrays: Arrays) -> bytes:
        copies = {name: array.copy() for name, array in arrays.items()}
        change(copies)
        return pack(plan, copies)

    return make


def with_plan(**changes: Any) -> MakeFile:
    """A file whose plan was changed."""
    return lambda plan, arrays: pack(msgspec.structs.replace(plan, **changes), arrays)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npz_of_a_huge_array() -> bytes:
    """A small file whose array states more bytes than any memory has."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**45,)})
    archive_bytes = io.BytesIO()
    with zipfile.ZipFile(archive_bytes, "w") as archive:
        archive.writestr("plan.npy", file.getvalue())
    return archive_bytes.getvalue()


def npz_of_wineexp_0_1(_: Plan, arrays: Arrays) -> bytes:
    old_plan = b'{"columns":["ash"],"texts":[],"steps":[],"order":"C","model":"xgboost","classes":[1],"present":[0]}'
    return npz(plan=np.frombuffer(old_plan, dtype=np.uint8), **arrays)


def splits(arrays: Arrays) -> Any:
    return np.flatnonzero(arrays["classifier.left"] >= 0)


def put(name: str, position: int, value: Any) -> MakeFile:
    """A file with one changed number; the value may be a function of the arrays."""
    return with_arrays(lambda arrays: arrays[name].__setitem__(position, value(arrays) if callable(value) else value))


def replace(name: str, change: Callable[[Any], Any]) -> MakeFile:
    """A file with one changed array."""
    return with_arrays(lambda arrays: arrays.update({name: change(arrays[name])}))


# What is wrong with the file: how it is made, and what the message says.
WRONG_FILES: dict[str, tuple[MakeFile, str]] = {
    "no zip": (lambda *_: b"PK no zip", "no whole file of arrays"),
    "cut short": (lambda plan, arrays: pack(plan, arrays)[:-200], "no whole file of arrays"),
    "flipped bytes": (lambda plan, arrays: pack(plan, arrays).replace(b"\x00\x00", b"\xff\xff"), "no whole file"),
    "pickled": (lambda *_: npz(plan=np.array([{}], dtype=object)), "no whole file of arrays"),
    "huge": (lambda *_: npz_of_a_huge_array(), "no whole file of arrays"),
    "no plan": (lambda _, arrays: npz(**arrays), "has no plan"),
    "of wineexp 0.1": (npz_of_wineexp_0_1, "a version that wineexp 0.1 stored must be promoted anew"),
    "no array": (with_arrays(lambda arrays: arrays.pop("classifier.roots")), "has no array classifier.roots"),
    "other type": (replace("classifier.left", lambda left: left.astype(np.int64)), "classifier.left .* must be int32"),
    "other length": (replace("classifier.left", lambda left: left[:-1]), r"classifier.left .* must be int32 of shape"),
    "other width": (replace("transformer1.fill", lambda fill: fill[:-1]), "transformer1.fill .* of shape"),
    "other shape": (replace("classifier.values", lambda values: values.reshape(-1)), "classifier.values .* of shape"),
    "root beyond": (put("classifier.roots", 0, lambda a: len(a["classifier.left"])), "classifier.roots .* out of"),
    "root negative": (put("classifier.roots", 0, -1), "classifier.roots .* out of the range"),
    "root twice": (put("classifier.roots", 1, lambda a: a["classifier.roots"][0]), "leads to a node"),
    "root is a child": (put("classifier.roots", 0, lambda a: a["classifier.left"][0]), "leads to a node"),
    "group beyond": (put("classifier.groups", 0, 3), "classifier.groups .* out of the range 0 to 2"),
    "a loop": (put("classifier.left", 0, 0), "leads to a node"),
    "backwards": (with_arrays(lambda a: a["classifier.left"].__setitem__(splits(a)[-1], 0)), "leads to a node"),
    "child beyond": (put("classifier.left", 0, lambda a: len(a["classifier.left"]) - 1), "leads to a node"),
    "two parents": (put("classifier.left", 0, lambda a: a["classifier.left"][splits(a)[1]]), "leads to a node"),
    "column beyond": (put("classifier.feature", 0, 99), "leads to a node, a column"),
    "column negative": (put("classifier.feature", 0, -1), "leads to a node, a column"),
    "value beyond": (put("classifier.feature", -1, lambda a: len(a["classifier.values"])), "or a value that does not"),
    "value NaN": (put("classifier.values", -1, np.nan), "a value that is not finite"),
    "ratio beyond": (put("transformer0.numerators", 0, 99), "transformer0.numerators .* out of the range"),
    "no denominator": (replace("transformer0.denominators", lambda array: array[:1]), "not as many numerators"),
    "unknown transformer": (with_plan(transformers=["ratios", "guess"]), "transformer guess is unknown"),
    "unknown classifier": (with_plan(classifier="oracle"), "classifier oracle is unknown"),
    "other order": (with_plan(memory_order="Z"), "memory_order must be C or F"),
    "no columns": (with_plan(columns=[]), "columns must name one column or more"),
    "present beyond": (with_plan(present=[0, 1, 9]), "present must hold ascending positions of the 3 classes"),
    "nothing present": (with_plan(present=[]), "present must name one class or more"),
    "text of no column": (with_plan(text_columns=[TextColumn("colour", ["red"], "red")]), "text column colour is not"),
    "encoded text of no column": (with_plan(encoded_columns=[EncodedColumn("colour", [])]), "column colour is not"),
    "no encoding": (with_plan(encoded_columns=[EncodedColumn("ash", [])]), "has no array encoded0.values"),
    "text without categories": (with_plan(text_columns=[TextColumn("ash", [], "red")]), "among its categories"),
}


@pytest.mark.parametrize("fault", WRONG_FILES)
def test_a_wrong_file_is_refused(xgb_domain: Any, fault: str) -> None:
    _, _, plan, arrays = xgb_domain
    make, message = WRONG_FILES[fault]
    with pytest.raises(UserError, match=message):
        compiled_model.load(make(plan, arrays))


def test_what_was_packed_is_unpacked(xgb_domain: Any) -> None:
    _, _, plan, arrays = xgb_domain
    unpacked_plan, unpacked = unpack(pack(plan, arrays))
    assert unpacked_plan == plan
    assert unpacked.keys() == arrays.keys()
    for name, array in arrays.items():
        assert unpacked[name].dtype == array.dtype
        np.testing.assert_array_equal(unpacked[name], array)


def test_with_random_bytes_a_model_is_refused_or_predicts(xgb_domain: Any) -> None:
    _, X, plan, arrays = xgb_domain
    row = [tuple(X.iloc[0])]
    rng = np.random.default_rng(7)
    predicted = 0
    for _ in range(400):
        changed = {name: array.copy() for name, array in arrays.items()}
        array = changed[rng.choice([name for name, array in changed.items() if array.size])]
        as_bytes = array.view(np.uint8).reshape(-1)
        as_bytes[rng.integers(len(as_bytes), size=3)] = rng.integers(256, size=3)
        with contextlib.suppress(UserError, ValueError), np.errstate(all="ignore"):
            assert CompiledModel(plan, changed).outputs(row).shape == (1, 3)
            predicted += 1
    assert 0 < predicted < 400
