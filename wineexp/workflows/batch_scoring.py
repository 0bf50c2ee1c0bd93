"""Predicts the rows of a file as a server would, chunk by chunk, and goes on where a killed process stopped.

Each chunk is predicted, and written as a part into a folder beside the output. When all are there, they become the
output, which appears whole. A process that starts again takes the parts that are there, if they are of the same input,
version and settings.
"""

import csv
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

import wineexp
from wineexp.core.errors import UserError
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model import pipeline
from wineexp.serving.model.loading import load
from wineexp.serving.model.metadata import describe_version
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes.mlflow import check_columns
from wineexp.tracking.registry import Registry
from wineexp.workflows.console import Bar
from wineexp.workflows.file_answers import FileAnswers
from wineexp.workflows.row_file import PARQUET, Chunk, RowFile, listed

STATE = "state.json"


@dataclass(frozen=True)
class Scored:
    """What was predicted.

    Attributes
    ----------
    rows : int
    resumed_rows : int
        How many of them an earlier process had predicted.
    provenance : Path
        The file beside the output that says what made it.
    """

    rows: int
    resumed_rows: int
    provenance: Path


def load_predictor(registry: Registry, alias: str, chunk_rows: int) -> Predictor:
    """The version that an alias names, or of this number, fetched and checked as by a server.

    Raises
    ------
    UserError
        There is none, or it fails a check.
    """
    registered = registry.version(alias)
    with tempfile.TemporaryDirectory(prefix="wineexp-predict-") as folder:
        files = registry.fetch(registered, Path(folder))
        pipeline.load_verified(files)
        return load(files, describe_version(registry, registered), alias, max_rows=chunk_rows)


def score(predictor: Predictor, file: RowFile, output: Path, chunk_rows: int) -> Scored:
    """Predict all rows of a file, and write the answers and what made them.

    Parameters
    ----------
    predictor : Predictor
    file : RowFile
        Its columns that are no features are passed through.
    output : Path
        Written as CSV where its name ends so, otherwise as Parquet: first the columns that are passed through, then
        `decision` and `probability.<class>`, or `number` with its interval; then `outside`; as in the prediction log.
    chunk_rows : int
        How many rows are in memory at one time.

    Raises
    ------
    UserError
        Something in the file is wrong, with all faults by line and column; then there is no output. Or the output is
        there already, or cannot be written.
    """
    scoring = _Scoring(predictor, file, output, chunk_rows)
    scoring.check()
    try:
        if (finished := scoring.finished()) is not None:
            return finished
        # As a server: outputs that are not finite are found and refused at the end.
        with scoring.locked(), np.errstate(all="ignore"), threadpool_limits(NATIVE_THREADS):
            resumed_rows = scoring.resume()
            try:
                scoring.predict(resumed_rows)
            except UserError:
                # What is wrong with the file has to change, and with it every part.
                shutil.rmtree(scoring.parts, ignore_errors=True)
                raise
            return scoring.finish(resumed_rows)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"output={output}: cannot be written: {error}; the same command goes on where this one stopped"
        ) from error


class _Scoring:
    def __init__(self, predictor: Predictor, file: RowFile, output: Path, chunk_rows: int) -> None:
        self.predictor = predictor
        self.file = file
        self.output = output
        self.chunk_rows = chunk_rows
        self.provenance = output.with_name(f"{output.name}.provenance.json")
        self.parts = output.with_name(f".{output.name}.parts")
        self.answers = FileAnswers(predictor, file)

    def check(self) -> None:
        """Check the columns of the file, and where the output is to be.

        Raises
        ------
        UserError
        """
        faults: list[str] = []
        try:
            check_columns(self.predictor.parser, self.file.columns, "")
        except ProblemError as error:
            faults += [f"{self.file.name}: {fault.detail}" for fault in error.faults]
        answers = self.answers.schema.names[len(self.answers.passed) :]
        faults += [
            f"{self.file.name}: the column {name} has the name of one of the answers; rename it"
            for name in (self.file.columns[place] for place in self.answers.passed)
            if name in answers
        ]
        if not self.output.parent.is_dir():
            faults.append(f"output={self.output}: there is no folder {self.output.parent}; make it first")
        elif self.output.suffix.lower() not in (*PARQUET, ".csv"):
            faults.append(f"output={self.output}: a name that ends in .parquet or .csv is wanted")
        if faults:
            raise UserError(*faults)
        digest = hashlib.md5(usedforsecurity=False)
        with self.file.path.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
        self.input_md5 = digest.hexdigest()

    @property
    def origin(self) -> dict[str, Any]:
        """What the answers depend on: the same, the same answers."""
        version = self.predictor.version
        return {
            "input": {
                "file": str(self.file.path),
                "md5": self.input_md5,
                "bytes": self.file.path.stat().st_size,
            },
            "model": {
                "name": version.name,
                "version": version.number,
                "alias": self.predictor.lineage.alias,
                "run_id": version.run_id,
                "files_sha256": version.digest,
                "config_sha256": self.predictor.lineage.config_sha256,
                "data_md5": self.predictor.lineage.data_md5,
                "form": self.predictor.form,
            },
            "chunk_rows": self.chunk_rows,
            "columns": self.answers.schema.names,
            "wineexp": wineexp.__version__,
        }

    def finished(self) -> Scored | None:
        """What an earlier process had finished; None where there is something to do.

        Raises
        ------
        UserError
            There is another output.
        """
        if not self.output.exists():
            return None
        try:
            written = json.loads(self.provenance.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            written = {}
        if {**self.origin, "rows": written.get("rows"), "written": written.get("written")} != written:
            raise UserError(f"output={self.output}: it is there already, from something else; give another name")
        shutil.rmtree(self.parts, ignore_errors=True)
        return Scored(written["rows"], written["rows"], self.provenance)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder of parts against other processes.

        Raises
        ------
        UserError
            One is at work.
        """
        self.parts.mkdir(exist_ok=True)
        folder = os.open(self.parts, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"output={self.output}: another process is writing it; wait for its end") from error
            yield
        finally:
            os.close(folder)

    def resume(self) -> int:
        """How many rows are predicted already; parts of anything else are removed."""
        state = self.parts / STATE
        try:
            is_same = json.loads(state.read_text(encoding="utf-8")) == self.origin
        except (OSError, ValueError):
            is_same = False
        if not is_same:
            for path in self.parts.iterdir():
                path.unlink()
            self._write_whole(state, json.dumps(self.origin))
        return sum(pq.read_metadata(part).num_rows for part in self._finished_parts())

    def predict(self, resumed_rows: int) -> None:
        """Predict the rows after those that are predicted already, and write a part for each chunk.

        Raises
        ------
        UserError
            With all faults of the file.
        """
        faults: list[str] = []
        n_faults, number = 0, len(self._finished_parts())
        with Bar("predicting", self.file.size) as bar:
            for chunk in bar.over(self.file.chunks(self.chunk_rows, resumed_rows)):
                try:
                    rows = self.answers.parsed(chunk)
                    # Where something is wrong, there will be no output: the rest is only checked.
                    if not n_faults:
                        table = self.answers.answers(chunk, rows)
                        temporary = self.parts / ".part"
                        pq.write_table(table, temporary, compression="zstd")
                        temporary.replace(self.parts / f"{number:08d}.parquet")
                        number += 1
                except ProblemError as error:
                    n_faults += error.n_faults
                    faults += [self._described(fault, chunk) for fault in error.faults]
        if not faults and not number:
            faults, n_faults = [f"{self.file.name}: there are no rows in it"], 1
        if faults:
            raise UserError(*listed(faults, n_faults))

    def finish(self, resumed_rows: int) -> Scored:
        """Make the output of the parts, and write what made it."""
        temporary = self.parts / ".output"
        n_rows = 0
        with _writer(temporary, self.output.suffix.lower() == ".csv", self.answers.schema) as write:
            for part in self._finished_parts():
                table = pq.read_table(part)
                n_rows += len(table)
                write(table)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        provenance = json.dumps({**self.origin, "rows": n_rows, "written": moment}, indent=2)
        self._write_whole(self.provenance, f"{provenance}\n")
        temporary.replace(self.output)
        shutil.rmtree(self.parts, ignore_errors=True)
        return Scored(n_rows, resumed_rows, self.provenance)

    def _finished_parts(self) -> list[Path]:
        return sorted(self.parts.glob("[0-9]*.parquet"))

    def _described(self, fault: Any, chunk: Chunk) -> str:
        """A fault with the place of its row in the file, and its column."""
        place = f"{self.file.place} {chunk.places[fault.row]}" if fault.row is not None else self.file.place
        reason = fault.detail.partition(": ")[2] or fault.detail
        return (
            f"{self.file.name}: {place}, {fault.field}: {reason}"
            if fault.field
            else (f"{self.file.name}: {place}: {reason}")
        )

    def _write_whole(self, path: Path, text: str) -> None:
        temporary = self.parts / ".text"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


@contextmanager
def _writer(path: Path, as_csv: bool, schema: pa.Schema) -> Iterator[Any]:
    """A function that writes a table after those before."""
    if not as_csv:
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield parquet.write_table
        return
    with path.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(schema.names)

        def write(table: pa.Table) -> None:
            # Python writes a float with as many digits as give it back to the bit.
            columns = [column.to_pylist() for column in table.columns]
            for row in zip(*columns, strict=True):
                writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in row])

        yield write
