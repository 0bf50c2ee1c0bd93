"""Data sets: every violation in an invalid file is reported, and the real files have their known numbers."""

from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import composed
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data import datasets, pin, pinned_file

# What conf/data/red.yaml says of its file.
RED_SETTINGS = OmegaConf.to_container(composed("data=red").data)
assert isinstance(RED_SETTINGS, dict)
del RED_SETTINGS["_target_"], RED_SETTINGS["path"]
COLUMNS = list(RED_SETTINGS["columns"])
HEADER = ";".join(f'"{name}"' for name in COLUMNS)
ROW = "7.4;0.7;0;1.9;0.076;11;34;0.9978;3.51;0.56;9.4;5"

Pinned = Callable[[bytes], str]


@pytest.fixture
def pinned(tmp_path: Path) -> Pinned:
    """`pinned(content)` writes a file and a pin of it, as `dvc add` would, and returns the pin's path."""

    def write(content: bytes) -> str:
        (tmp_path / "broken.csv").write_bytes(content)
        path = tmp_path / "broken.csv.dvc"
        path.write_text(
            f"outs:\n- md5: {md5(content).hexdigest()}\n  size: {len(content)}\n  hash: md5\n  path: broken.csv\n"
        )
        return str(path)

    return write


def faults(pin_file: str) -> list[str]:
    """The faults of a file, without its name."""
    with pytest.raises(UserError) as caught:
        datasets.table(pin_file, **RED_SETTINGS)
    name = pin_file.removesuffix(".dvc")
    assert all(fault.startswith(name) for fault in caught.value.faults)
    return [fault.removeprefix(name).removeprefix(", ") for fault in caught.value.faults]


def test_one_error_lists_every_violation(pinned: Pinned) -> None:
    rows = [
        ROW,
        ROW.replace("7.4", "seven"),
        ROW.replace(";0.7;", ";;"),
        ROW.replace(";0.7;", "; ;"),
        ROW.replace(";11;", ";1100;")[:-1] + "12",
        ROW[:-1] + "5.5",
        "7.4;0.7",
        ROW + ";6",
        "",
        ROW.replace("0.9978", "inf"),
        ROW.replace("3.51", "nan"),
        ROW.replace(";9.4;", ";-9.4;"),
    ]
    assert faults(pinned("\n".join([HEADER, *rows]).encode())) == [
        "line 3, fixed acidity: 'seven' is no number",
        "line 4, volatile acidity: '' is missing, and no value may be",
        "line 5, volatile acidity: ' ' is missing, and no value may be",
        "line 6, free sulfur dioxide: '1100' is not from 0 to 350 mg/L",
        "line 6, quality: '12' is not one of 3, 4, 5, 6, 7, 8, 9",
        "line 7, quality: '5.5' is not one of 3, 4, 5, 6, 7, 8, 9",
        "line 8: 2 values ('7.4;0.7'), there are 12 columns, separated by ';'",
        f"line 9: 13 values ('{ROW};6'), there are 12 columns, separated by ';'",
        "line 10: 0 values (''), there are 12 columns, separated by ';'",
        "line 11, density: 'inf' is not from 0.98 to 1.05 g/cm³",
        "line 12, pH: 'nan' is no number",
        "line 13, alcohol: '-9.4' is not from 7 to 16 % vol",
    ]


def test_many_faults_of_one_kind_are_grouped_with_their_number(pinned: Pinned) -> None:
    commas = [ROW.replace(".", ",")] * 1000
    ranges = [ROW.replace(";11;", ";1100;")] * 20
    short = ["7.4;0.7"] * 1000
    listed = faults(pinned("\n".join([HEADER, *commas, *ranges, *short]).encode()))
    assert listed == [
        "line 2, fixed acidity: '7,4' is written with a decimal comma; say decimal: ',' where all are",
        "line 2, volatile acidity: '0,7' is written with a decimal comma; say decimal: ',' where all are",
        "line 2, residual sugar: '1,9' is written with a decimal comma; say decimal: ',' where all are",
        ": 7,997 more values, up to line 1001, are written with a decimal comma; say decimal: ',' where all are",
        *(f"line {line}, free sulfur dioxide: '1100' is not from 0 to 350 mg/L" for line in (1002, 1003, 1004)),
        "free sulfur dioxide: 17 more values, up to line 1021, are not from 0 to 350 mg/L",
        *(f"line {line}: 2 values ('7.4;0.7'), there are 12 columns, separated by ';'" for line in (1022, 1023, 1024)),
        ": 997 more lines, up to line 2021, have another number of values; there are 12 columns, separated by ';'",
    ]


@pytest.mark.parametrize("column", range(12))
def test_every_column_has_a_range(pinned: Pinned, column: int) -> None:
    cells = ROW.split(";")
    for wrong in ("-1", "9999"):
        cells[column] = wrong
        name = COLUMNS[column]
        (fault,) = faults(pinned(f"{HEADER}\n{';'.join(cells)}\n".encode()))
        assert fault.startswith(f"line 2, {name}: '{wrong}' is not ")


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        (HEADER.replace("quality", "grade"), "quality"),
        (HEADER.replace('"density"', '"pH"'), "density"),
        (HEADER.replace('"pH";', ""), "pH"),
        (ROW, "alcohol, chlorides, citric_acid, density, fixed_acidity, free_sulfur_dioxide, pH, quality"),
    ],
    ids=["renamed", "duplicate", "short", "none"],
)
def test_a_wrong_header_is_reported_once(pinned: Pinned, header: str, lacking: str) -> None:
    width = header.count(";") + 1
    rows = [";".join(ROW.split(";")[:width])] * 3
    fault, *repeated = faults(pinned("\n".join([header, *rows]).encode()))
    assert fault.startswith("line 1: columns are [")
    assert f"(separated by ';'), the data set wants also {lacking}" in fault
    expected = ["line 1: several columns have the same name: 'pH'; rename them"] if lacking == "density" else []
    assert repeated == expected


def test_a_wrong_separator_is_reported_once(pinned: Pinned) -> None:
    (fault,) = faults(pinned("\n".join([HEADER, ROW, ROW]).replace(";", ",").encode()))
    assert "(separated by ';'), the data set wants also alcohol, " in fault


def test_a_short_line_under_a_wrong_header_is_reported_too(pinned: Pinned) -> None:
    first, second = faults(pinned(f"{HEADER.replace('pH', 'acid')}\n{ROW}\n1;2\n".encode()))
    assert first.startswith("line 1: columns are")
    assert second == "line 3: 2 values ('1;2'), there are 12 columns, separated by ';'"


@pytest.mark.parametrize("content", ["", HEADER, HEADER + "\n"])
def test_a_file_without_rows_is_refused(pinned: Pinned, content: str) -> None:
    assert faults(pinned(content.encode())) == [" holds no rows"]


def test_a_file_that_is_not_utf8_is_refused(pinned: Pinned) -> None:
    (fault,) = faults(pinned(f"{HEADER}\n{ROW};é\n".encode("latin-1")))
    assert fault.startswith(" is not CSV text in UTF-8: 'utf-8' codec can't decode byte 0xe9 in position")
    assert fault.endswith("say encoding: in the data set's YAML, such as latin-1 or cp1252")


def test_a_folder_instead_of_the_file_is_refused(pinned: Pinned) -> None:
    path = pinned(b"x")
    file = Path(path.removesuffix(".dvc"))
    file.unlink()
    file.mkdir()
    assert faults(path) == [" cannot be read: Is a directory"]


def test_faults_of_all_files_are_reported_together(pinned: Pinned) -> None:
    broken = pinned(f"{HEADER}\n{ROW.replace('7.4', 'x')}\n{ROW.replace('3.51', 'y')}\n".encode())
    with pytest.raises(UserError) as caught:
        datasets.table([broken, "data/raw/rose.csv.dvc"], **RED_SETTINGS)
    assert len(caught.value.faults) == 3


def test_faults_of_a_cultivar_file_are_reported_by_line(pinned: Pinned) -> None:
    content = pinned_file.load(pin.read("data/raw/wine.data.dvc"), rebuild=datasets.uci_wine_bytes)
    broken = pinned(content.replace(b"1,14.23", b"4,x", 1) + b"3,4\n")
    cfg = composed("data=cultivar", f"data.path={broken}")
    with pytest.raises(UserError) as caught:
        build(cfg)["data"]()
    first, second, last = (fault.partition("broken.csv, ")[2] for fault in caught.value.faults)
    assert first == "line 1, cultivar: '4' is not one of 1, 2, 3"
    assert second == "line 1, alcohol: 'x' is no number"
    assert last == "line 179: 2 values ('3,4'), there are 14 columns, separated by ','"


def test_cultivar() -> None:
    wine = build(composed("data=cultivar"))["data"]()
    assert wine.frame.shape == (178, 14)
    assert wine.frame["cultivar"].value_counts().to_dict() == {"2": 71, "1": 59, "3": 48}
    assert "cultivar" not in wine.features
    assert set(wine.units) >= set(wine.features)
    assert wine.duplicates == 0
    assert wine.md5 == "3e584720e6718d28509f86f05b7885a1"
    assert wine.frame.iloc[0].tolist() == [
        "1",
        14.23,
        1.71,
        2.43,
        15.6,
        127,
        2.8,
        3.06,
        0.28,
        2.29,
        5.64,
        1.04,
        3.92,
        1065,
    ]


RED = "2daeecee174368f8a33b82c8cccae3a5"
WHITE = "5d9ff0f7f716dace19e3ab4578775fd7"


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize(
    ("name", "rows", "duplicates", "grades", "hashes"),
    [
        ("red", 1599, 240, range(3, 9), RED),
        ("white", 4898, 937, range(3, 10), WHITE),
        ("quality", 6497, 1177, range(3, 10), f"{RED}+{WHITE}"),
    ],
)
def test_wine_quality(name: str, rows: int, duplicates: int, grades: range, hashes: str) -> None:
    wine = build(composed(f"data={name}"))["data"]()
    assert len(wine.frame) == rows
    assert wine.duplicates == duplicates
    assert wine.md5 == hashes
    assert sorted(map(int, wine.frame["quality"].unique())) == list(grades)
    assert wine.frame.index.tolist() == list(range(rows))
    assert not wine.frame.isna().any().any()
    assert set(wine.frame) - set(wine.features) == {"quality"}
    assert set(wine.units) >= set(wine.features)
    assert all(" " not in name for name in wine.features)
    if name != "quality":
        assert "colour" not in wine.frame
    else:
        assert wine.frame["colour"].value_counts().to_dict() == {"white": 4898, "red": 1599}
        assert "colour" in wine.features
