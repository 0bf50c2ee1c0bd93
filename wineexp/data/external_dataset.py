"""The data set of Parquet files that are read in batches, as `wineexp.data.table` says it with `engine: external`."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wineexp.core.errors import UserError
from wineexp.data import column_rules, external_table, fetched_file, pin, pinned_file
from wineexp.data.column_rules import ColumnRule
from wineexp.data.dataset import Dataset, assemble
from wineexp.data.file_columns import parse_tables, role_faults
from wineexp.data.schema import snake_case

if TYPE_CHECKING:
    from wineexp.core.dask_workers import DaskWorkers

# Rows of the sample: by default, and at least.
SAMPLE_ROWS, MIN_SAMPLE_ROWS = 100_000, 1_000


def engine_faults(
    engine: str, scheduler: str | None, sample_rows: int, roles: Mapping[str, str], said: Mapping[str, Any]
) -> list[str]:
    """Why a table cannot be read as `engine` says."""
    if scheduler is not None and engine != external_table.DASK:
        return [
            f"data.scheduler={scheduler}: data.engine={engine} trains on this machine alone; say data.engine=dask, or "
            "leave it out"
        ]
    if engine not in external_table.ENGINES:
        return [f"data.engine={engine}: one of {', '.join(external_table.ENGINES)} is wanted"]
    if engine == external_table.MEMORY:
        return []
    used = [key for key in ("time", "fold") if key in roles] + [key for key, value in said.items() if value]
    remedy = "leave it out, or say data.engine=memory"
    faults = [
        f"data.{key}: data.engine={engine} splits rows by a hash of their contents or of data.group, reads the files "
        f"of data.path alone, and does not take this key; {remedy}"
        for key in used
    ]
    if sample_rows < MIN_SAMPLE_ROWS:
        faults.append(f"data.sample_rows={sample_rows}: at least {MIN_SAMPLE_ROWS:,} are wanted")
    return faults


def missing_packages(engine: str) -> list[str]:
    """The fault of an engine whose package is not installed."""
    if engine != external_table.DASK or importlib.util.find_spec("distributed") is not None:
        return []
    return ["data.engine=dask needs the package distributed, which is missing: pip install 'wineexp[dask]'"]


def dask_workers(engine: str, scheduler: str | None) -> "DaskWorkers | None":
    """What models are trained on; None where it is this process.

    Raises
    ------
    UserError
        As of `wineexp.core.dask_workers.connect`; or the package distributed is missing.
    """
    if engine != external_table.DASK:
        return None
    if faults := missing_packages(engine):
        raise UserError(*faults)
    from wineexp.core.dask_workers import connect

    return connect(scheduler)


def read_external(
    addresses: Sequence[str],
    rules: Mapping[str, ColumnRule],
    left_out: set[str],
    labels: set[str],
    roles: Mapping[str, str],
    *,
    missing_words: Sequence[str],
    decimal: str | None,
    noun: Sequence[str] | None,
    sample_rows: int,
    workers: "DaskWorkers | None" = None,
) -> Dataset:
    """The data set of Parquet files that are read in batches: a sample in memory, and what reads the rest.

    Where models are trained on workers, they must be able to read the files.
    """
    pins: list[pin.Pin] = []
    faults: list[str] = []
    for address in addresses:
        try:
            pinned = fetched_file.read(address) if fetched_file.is_address(address) else pin.read(address)
            pinned_file.ensure(pinned)
            pins.append(pinned)
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    files = [external_table.File(pinned.name, pinned.path) for pinned in pins]
    if workers is not None:
        workers.check_files([file.path.absolute() for file in files])
    heads = [external_table.head(file) for file in files]
    named = {*rules, *left_out, *labels, *roles.values()}
    parsed, reports = parse_tables(
        heads, rules, left_out=left_out, named=named, missing_words=missing_words, decimal=decimal
    )
    if faults := [fault for report in reports for fault in report] or role_faults(parsed, roles):
        raise UserError(*faults)
    cells = {snake_case(title): column for title, column in heads[0].columns.items()}
    typed = {
        name: external_table.typed_rule(rules.get(name, ColumnRule()), column, cells[name])
        for name, column in parsed.items()
        if column.type != column_rules.OTHER
    }
    # A dry assembly of the heads tells the features, and says which columns are left out.
    features = assemble(parsed, rules, labels, roles, tuple(pins), noun).features
    external, sample = external_table.open_table(
        files,
        {name: rule for name, rule in typed.items() if name in {*features, *labels, *roles.values()}},
        features,
        roles.get("group"),
        missing_words=missing_words,
        decimal=decimal,
        sample_rows=sample_rows,
    )
    if faults := role_faults(sample, roles):
        raise UserError(*faults)
    return replace(
        assemble(sample, rules, labels, roles, tuple(pins), noun), external=replace(external, workers=workers)
    )
