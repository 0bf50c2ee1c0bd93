"""Tables of a user's own: what is inferred from their files, what can be said of them, and what is refused."""

from datetime import date, time
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wineexp.core.errors import UserError
from wineexp.data import pin
from wineexp.data.dataset import Dataset
from wineexp.data.datasets import table
from wineexp.data.target import Target


def read(folder: Path, text: str | bytes, **settings: Any) -> Dataset:
    path = folder / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return table(str(path), **settings)


def faults(folder: Path, text: str, **settings: Any) -> list[str]:
    """The faults of a file, without its path."""
    with pytest.raises(UserError) as refused:
        read(folder, text, **settings)
    return [fault.removeprefix(f"{folder}/own.csv").removeprefix(", ") for fault in refused.value.faults]


KINDS = """Customer Id,calls,minutes,zip,plan,active,since,note
a,3,1.5,01234,basic,true,2020-01-31,x
b,4,,12345,NA,FALSE,2020-02-01T10:30,x
c,-5,2e3,12345,pro,True,2020-03-01,y
"""


def test_types_are_inferred_from_all_values(tmp_path: Path) -> None:
    data = read(tmp_path, KINDS, drop=["note"])
    assert data.features == ("Customer_Id", "calls", "minutes", "zip", "plan", "active", "since")
    assert [str(dtype) for dtype in data.frame.dtypes] == [
        *("str", "int64", "float64", "str", "str", "bool"),
        "datetime64[us]",
    ]
    assert data.frame["minutes"].tolist()[::2] == [1.5, 2000]
    assert data.frame.isna().sum().to_dict() | {"minutes": 1, "plan": 1} == data.frame.isna().sum().to_dict()
    assert data.frame["active"].tolist() == [True, False, True]
    assert data.frame["zip"].tolist() == ["01234", "12345", "12345"]
    assert data.units == dict.fromkeys(data.features, "")
    assert data.noun == ("row", "rows")


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("a;b\n1,5;é\n2,25;b\n", {}),
        ("a\tb\n1.5\té\n2.25\tb\n", {}),
        ("\ufeffa,b\r\n1.5,é\r\n2.25,b\r\n\r\n", {}),
        ("a|b\n1.5|é\n2.25|b".encode("utf-16"), {}),
        ("a,b\n1.5,é\n2.25,b\n".encode("latin-1"), {"encoding": "latin-1"}),
        ('"a","b"\n"1,5","é"\n"2,25","b"\n', {"decimal": ","}),
        (" a , b \n 1.5 , é \n 2.25 , b \n", {}),
    ],
    ids=["decimal comma", "tab", "byte order mark and CRLF", "UTF-16", "latin-1", "quoted", "padded"],
)
def test_a_csv_file_is_read_as_it_comes(tmp_path: Path, content: str | bytes, settings: dict[str, Any]) -> None:
    frame = read(tmp_path, content, **settings).frame
    assert frame["a"].tolist() == [1.5, 2.25]
    assert frame["b"].tolist() == ["é", "b"]


def test_a_comma_that_may_separate_thousands_makes_no_number(tmp_path: Path) -> None:
    assert read(tmp_path, "a;b\n1,500;1\n2;2\n").frame["a"].tolist() == ["1,500", "2"]


@pytest.mark.parametrize(
    ("cells", "said", "expected"),
    [
        (["31/12/2024", "1/2/2024"], {}, ["2024-12-31", "2024-02-01"]),
        (["12/31/2024", "01/02/2024"], {}, ["2024-12-31", "2024-01-02"]),
        (["1.2.2024", "2.1.2024"], {}, ["2024-02-01", "2024-01-02"]),
        (["2024/12/31 18:30", "2024/01/02 00:00"], {}, ["2024-12-31 18:30", "2024-01-02"]),
        (["1/2/2024", "2/1/2024"], {"format": "%d/%m/%Y"}, ["2024-02-01", "2024-01-02"]),
        (["Feb 3 24", "Mar 4 25"], {"format": "%b %d %y"}, ["2024-02-03", "2025-03-04"]),
        # The day and the month cannot be told apart, or not all of them are dates.
        (["1/2/2024", "2/1/2024"], {}, None),
        (["31/12/2024", "12/31/2024"], {}, None),
    ],
)
def test_dates_are_read_where_one_format_fits(
    tmp_path: Path, cells: list[str], said: dict[str, str], expected: list[str] | None
) -> None:
    column = read(tmp_path, "a,d\n" + "".join(f"1,{cell}\n" for cell in cells), columns={"d": said}).frame["d"]
    if expected is None:
        assert column.tolist() == cells
    else:
        assert column.tolist() == [pd.Timestamp(text) for text in expected]


def test_a_cell_of_another_format_is_reported(tmp_path: Path) -> None:
    wrong = faults(tmp_path, "a,d\n1,31/12/2024\n2,2024-12-31\n", columns={"d": {"format": "%d/%m/%Y"}})
    assert wrong[0].endswith("line 3, d: '2024-12-31' is no date of the format %d/%m/%Y")


def test_what_is_said_of_columns_holds(tmp_path: Path) -> None:
    said = {
        "calls": {"type": "category"},
        "zip": {"type": "number"},
        "minutes": {"unit": "min", "range": [0, None], "meaning": "a month"},
        "Customer Id": {"type": "text"},
        "plan": {"levels": ["basic", "pro"]},
    }
    data = read(tmp_path, KINDS, columns=said, drop=["since", "note"], missing=["", "NA", "-5"])
    assert data.features == ("calls", "minutes", "zip", "plan", "active")
    assert data.frame["calls"].tolist()[:2] == ["3", "4"]
    assert data.frame["calls"].isna().tolist() == [False, False, True]
    assert data.frame["zip"].tolist() == [1234.0, 12345.0, 12345.0]
    assert (data.units["minutes"], data.meanings) == ("min", {"minutes": "a month"})


def test_every_violation_is_reported_at_once_by_line_column_value_and_rule(tmp_path: Path) -> None:
    said = {
        "calls": {"range": [0, 3]},
        "zip": {"levels": [1234, 5]},
        "plan": {"levels": ["basic"]},
        "active": {"type": "number"},
        "since": {"type": "boolean"},
        "note": {"type": "date"},
    }
    assert faults(tmp_path, KINDS + "d,1,2\n", columns=said) == [
        "line 2, active: 'true' is no number",
        "line 2, since: '2020-01-31' is neither true nor false",
        "line 2, note: 'x' is no date; write it as 2024-12-31",
        "line 3, calls: '4' is not from 0 to 3",
        "line 3, zip: '12345' is not one of 1234, 5",
        "line 3, active: 'FALSE' is no number",
        "line 3, since: '2020-02-01T10:30' is neither true nor false",
        "line 3, note: 'x' is no date; write it as 2024-12-31",
        "line 4, calls: '-5' is not from 0 to 3",
        "line 4, zip: '12345' is not one of 1234, 5",
        "line 4, plan: 'pro' is not one of basic",
        "line 4, active: 'True' is no number",
        "line 4, since: '2020-03-01' is neither true nor false",
        "line 4, note: 'y' is no date; write it as 2024-12-31",
        "line 5: 3 values ('d,1,2'), there are 8 columns, separated by ','",
    ]


def test_the_lines_of_faults_are_those_of_the_file(tmp_path: Path) -> None:
    assert faults(tmp_path, 'a,b\n"two\nlines",1\nx,y\n', columns={"b": {"type": "number"}}) == [
        "line 4, b: 'y' is no number"
    ]


def test_faults_of_many_rows_are_found_in_each_of_several_files(tmp_path: Path) -> None:
    paths = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.csv"
        path.write_text("b,a\n" * (name == "second") + "a,b\n" * (name == "first") + "1,1\n" * 3 + "x,1\n")
        paths.append(str(path))
    with pytest.raises(UserError) as refused:
        table(paths, columns={"a": {"type": "number"}})
    assert refused.value.faults == (f"{paths[0]}, line 5, a: 'x' is no number",)
    data = table(paths, file_column="source")
    assert data.frame["source"].tolist() == ["first"] * 4 + ["second"] * 4
    assert data.frame["b"].tolist() == ["1"] * 7 + ["x"]


def test_what_is_wrong_with_the_config_is_said_at_once_before_files_are_read() -> None:
    with pytest.raises(UserError) as refused:
        table(
            "nowhere.csv",
            columns={
                "a": {"type": "nmber", "units": "kg"},
                "b": {"range": [3, 1]},
                "c": {"levels": [True, False]},
                "d": {"type": "date", "range": [0, 1]},
                "e": 3,
                "f": {"type": "number", "format": "d.m.y"},
                "g": {"format": "%d of %d"},
            },
            drop=["x"],
            group="x",
            separator="::",
            noun=["customer"],
        )
    starts = [
        "data.columns.a.units=kg: no such key; did you mean unit?",
        "data.columns.a.type=nmber: no such type; did you mean number?",
        "data.columns.b.range=[3, 1]: the least and the greatest number are wanted",
        "data.columns.c.levels=[True, False]: a list of texts, or of numbers, is wanted; words such as yes and no need",
        "data.columns.d.range=[0, 1]: only a column of type number has a range, this one is a date",
        "data.columns.e=3: keys are wanted",
        "data.columns.f.format=d.m.y: that of a date is wanted, such as '%d/%m/%Y'",
        "data.columns.f.format=d.m.y: only a column of type date has a format, this one is a number",
        "data.columns.g.format=%d of %d: that of a date is wanted",
        "data.separator='::': one character is wanted",
        "data.group=x: the column is in data.drop, too",
        "data.noun=['customer']: two words for a row are wanted, as [customer, customers]",
    ]
    assert [fault[: len(start)] for fault, start in zip(refused.value.faults, starts, strict=True)] == starts


def test_columns_that_the_file_lacks_are_named(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, KINDS, drop=["customer"], group="home", columns={"Plan": {}})
    assert fault.startswith("line 1: columns are ['Customer Id', 'calls', ")
    assert fault.endswith("(separated by ','), the data set wants also Plan, customer, home")


def test_a_parquet_file_keeps_its_types_and_is_checked(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "k": [1, 2, 3],
            "t": ["a", None, "b"],
            "c": pd.Categorical(["x", "y", "x"]),
            "b": [True, False, True],
            "d": pd.to_datetime(["2020-01-01"] * 3),
        }
    )
    path = tmp_path / "own.parquet"
    frame.to_parquet(path)
    read = table(str(path)).frame
    assert [str(dtype) for dtype in read.dtypes][:5] == ["float64", "int64", "str", "str", "bool"]
    assert read["n"].isna().tolist() == [False, True, False]
    assert table(str(path), columns={"k": {"type": "category"}}).frame["k"].tolist() == ["1", "2", "3"]
    with pytest.raises(UserError) as refused:
        table(str(path), columns={"k": {"range": [0, 2]}, "c": {"type": "number"}}, missing=[])
    assert [fault.removeprefix(f"{path}, ") for fault in refused.value.faults] == [
        "row 0, c: 'x' is no number",
        "row 1, n: '' is missing, and no value may be",
        "row 1, t: '' is missing, and no value may be",
        "row 1, c: 'y' is no number",
        "row 2, k: '3' is not from 0 to 2",
        "row 2, c: 'x' is no number",
    ]


def test_every_type_of_a_parquet_column_is_read_or_left_out_for_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    columns = {
        "known": pa.array([True, None, False]),
        "price": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
        "units": pa.array([Decimal(1), Decimal(2), Decimal(3)], pa.decimal128(38, 0)),
        "day": pa.array([date(2024, 1, number) for number in (1, 2, 3)]),
        "sold": pa.array([date(2024, 2, number) for number in (1, 2, 3)]),
        "list": pa.array([[1, 2], [3], None]),
        "struct": pa.array([{"a": [1]}, {"a": [2]}, None]),
        "clock": pa.array([time(1, 2)] * 3),
        "image": pa.array([b"a", b"b", b"c"]),
    }
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table(columns), path)
    data = table(str(path), time="day")
    assert data.features == ("known", "price", "units", "sold")
    assert data.frame["known"].tolist() == [True, None, False]
    assert data.frame["price"].tolist()[::2] == [1.5, 2.25]
    assert data.frame["units"].tolist() == [1, 2, 3]
    assert (data.times.iloc[0], data.frame["sold"].iloc[2]) == (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-03"))
    assert data.duplicates == data.chance_duplicates == 0
    assert "neither numbers, truth values, dates nor texts: list, struct, clock, image" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "parquet", "decimals"])
def test_long_numbers_that_name_groups_are_not_rounded(tmp_path: Path, kind: str) -> None:
    keys = [9007199254740992, 9007199254740993, None]
    path = tmp_path / f"own.{'csv' if kind == 'csv' else 'parquet'}"
    if kind == "csv":
        path.write_text("i,g,f,x\n" + "".join(f"{key or ''},{key or 0},{key or 0},1\n" for key in keys))
    else:
        ids = pa.array(keys) if kind == "parquet" else pa.array(keys).cast(pa.decimal128(38, 0))
        groups = ids.fill_null(0)
        pq.write_table(pa.table({"i": ids, "g": groups, "f": groups, "x": [1, 1, 1]}), path)
    data = table(str(path), id="i", group="g", fold="f")
    assert data.ids is not None
    assert data.groups is not None
    assert data.folds is not None
    assert data.ids.dropna().tolist() == ["9007199254740992", "9007199254740993"]
    assert data.groups.tolist() == data.folds.tolist() == ["9007199254740992", "9007199254740993", "0"]


def test_the_first_line_of_a_csv_file_may_name_its_separator(tmp_path: Path) -> None:
    text = "sep=;\r\na;b,c\r\n1;2,5\r\nx;3\r\n"
    assert read(tmp_path, text).frame["b,c"].tolist() == [2.5, 3.0]
    assert faults(tmp_path, text, columns={"a": {"type": "number"}}) == ["line 4, a: 'x' is no number"]
    assert faults(tmp_path, text, group="g")[0].startswith("line 2: columns are ['a', 'b,c'] (separated by ';')")


def test_an_empty_cell_is_missing_whatever_words_say_so(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1,x\n,y\n?,z\n", missing=["?"]).frame["a"].isna().tolist() == [False, True, True]


def test_an_added_column_replaces_none(tmp_path: Path) -> None:
    assert faults(tmp_path, "a,b\n1,x\n", file_column="b") == [
        "data.file_column=b: the files have a column of this name; give another name"
    ]
    assert read(tmp_path, "a,b\n1,x\n", file_column="b", drop=["b"]).frame["b"].tolist() == ["own"]


def test_columns_of_a_parquet_file_that_have_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a b": [1], "a_b": [2]}), tmp_path / "own.parquet")
    with pytest.raises(UserError, match=r"own\.parquet: several columns have the same name: 'a b', 'a_b'; rename them"):
        table(str(tmp_path / "own.parquet"))


def test_free_text_is_left_out_unless_it_is_called_a_category(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    text = "note,a\n" + "".join(f"word {n},{n % 3}\n" for n in range(100))
    assert read(tmp_path, text).features == ("a",)
    assert "almost every row has another text: note" in caplog.text
    assert read(tmp_path, text, columns={"note": {"type": "category"}}).features == ("note", "a")


def test_a_file_without_a_pin_is_known_by_its_md5(tmp_path: Path) -> None:
    data = read(tmp_path, KINDS)
    assert not data.pins[0].is_pinned
    assert data.md5 == md5(KINDS.encode()).hexdigest()
    assert pin.read(data.pins[0].dvc_name) == data.pins[0]
    pin.write(data.pins[0].path, None)
    pinned = pin.read(data.pins[0].path)
    assert (pinned.is_pinned, pinned.md5, pinned.path) == (True, data.md5, data.pins[0].path)


@pytest.mark.parametrize(
    ("values", "labels"),
    [("1.0 2.0 10.0", [1, 2, 10]), ("1 2 10", [1, 2, 10]), ("01 2 10", ["01", "10", "2"]), ("a b c", ["a", "b", "c"])],
)
def test_whole_numbers_are_classes_in_their_order(tmp_path: Path, values: str, labels: list[Any]) -> None:
    data = read(tmp_path, "y,x\n" + "".join(f"{value},1\n" for value in values.split()))
    assert Target("y", None, None, True, "accuracy", "maximize").read(data.frame, data.features)[2].tolist() == labels
