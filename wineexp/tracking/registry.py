"""The registered model: its versions, verified before anything is loaded from them, and the aliases that name them."""

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.signals import uninterrupted
from wineexp.models import manifest, persistence
from wineexp.tracking import store

# Tags of a version: the manifest of its files, as JSON, and one digest over it.
FILES, DIGEST = "model.files", "model.sha256"

# Another: whether the model was compiled for serving, or why not.
FORM = "model.form"

# Seconds that a process may hold the registry to itself; whoever has watched the same holder for longer takes over.
LEASE = 20.0

# Characters of somebody else's message that are passed on.
LONGEST = 300


class UnavailableError(UserError):
    """Files cannot be had at the moment: nothing is known against them."""


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes
    ----------
    name : str
        The registered model.
    number : int
    run_id : str
    source : str
        Where its files are.
    tags : dict of str to str
    aliases : tuple of str
        In the registry's order.
    """

    name: str
    number: int
    run_id: str
    source: str
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file, by name, as it was registered.

        Raises
        ------
        UserError
            The version was registered without.
        """
        try:
            return dict(json.loads(self.tags[FILES]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"version {self.number} of {self.name} has no readable tag {FILES}, so that nobody can tell whether "
                "its files are those that were registered; it is not loaded. Promote it anew"
            ) from error


class Registry:
    """One registered model in a store.

    Parameters
    ----------
    uri : str
        `MLFLOW_TRACKING_URI` wins.
    name : str

    Raises
    ------
    UserError
        The store cannot be reached or opened.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.uri = store.connect(uri)
        self.name = name
        self.client = mlflow.MlflowClient()

    def aliases(self) -> dict[str, int]:
        """Number of the version that each alias names; empty where nothing is registered."""
        found = self._registered()
        return {alias: int(number) for alias, number in found.aliases.items()} if found else {}

    def tags(self) -> dict[str, str]:
        """Tags of the registered model; empty where there is none yet."""
        found = self._registered()
        return dict(found.tags) if found else {}

    def ensure(self) -> None:
        """Make the registered model where it is missing."""
        if self._registered() is None:
            self.client.create_registered_model(self.name)

    def _registered(self) -> RegisteredModel | None:
        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if _is(error, RESOURCE_DOES_NOT_EXIST):
                return None
            raise

    def find(self, word: str) -> Version | None:
        """The version of this number, or that this alias names; None where there is none."""
        try:
            if word.isdecimal():
                return _read(self.client.get_model_version(self.name, word))
            return _read(self.client.get_model_version_by_alias(self.name, word))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def version(self, word: str) -> Version:
        """As `find`.

        Raises
        ------
        UserError
            There is none.
        """
        found = self.find(word)
        if found is None:
            raise UserError(
                f"{word}: {self.name} in {self.uri} has no version or alias of this name; "
                f"{did_you_mean(word, self.aliases())}"
            )
        return found

    def seal(self, model_id: str) -> dict[str, str]:
        """Prove that a stored model is whole, and give the digests of its files as tags for its version.

        It is fetched as a server would, loaded, and asked its golden rows.

        Raises
        ------
        UserError
            What is stored cannot be fetched or loaded, or does not answer as the model did when it was stored.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._download(f"models:/{model_id}", Path(scratch))
            files = manifest.create(folder)
            gap = persistence.pipeline_golden_rows_gap(persistence.load(folder), folder)
        if gap != 0:
            raise UserError(f"the stored model answers its golden rows otherwise than it did before, by up to {gap:g}")
        return {FILES: json.dumps(files), DIGEST: manifest.digest(files)}

    def register(self, run_id: str, model_id: str, tags: Mapping[str, str]) -> Version:
        """Make a version of a stored model; its tags are those of `seal`, and any others."""
        self.ensure()
        return _read(
            self.client.create_model_version(self.name, f"models:/{model_id}", run_id, dict(tags), model_id=model_id)
        )

    def fetch(self, version: Version, folder: Path) -> Path:
        """Download a version's files into a folder and hold them against what was registered; gives where they are.

        Raises
        ------
        UnavailableError
            They cannot be had. The folder is then left empty, and so it is below.
        UserError
            They are not those that were registered.
        """
        expected = version.files
        try:
            found = self._download(version.source, folder)
            manifest.verify(found, expected)
        except UserError as error:
            for path in folder.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            told = (f"version {version.number} of {self.name}: {fault}" for fault in error.faults)
            raise type(error)(*told) from error
        return found

    def load(self, version: Version) -> Any:
        """The model of a version, verified.

        Raises
        ------
        UserError
            As `fetch`, or it holds a type that is not trusted.
        """
        with tempfile.TemporaryDirectory() as scratch:
            return persistence.load(self.fetch(version, Path(scratch)))

    def _download(self, source: str, folder: Path) -> Path:
        try:
            # A destination of its own: MLflow would else write into the store, which may be read-only.
            found = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            told = " ".join(str(error).split())[:LONGEST]
            raise UnavailableError(f"the files at {source} cannot be had: {told}") from error
        # Of a folder that is not there, as on a disk that is not mounted, MLflow makes an empty one.
        if not any(path.is_file() and path.name not in manifest.ADDED_BY_DOWNLOAD for path in found.rglob("*")):
            raise UnavailableError(f"the files at {source} cannot be had: there are none")
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the registry against other processes, here and elsewhere, for the few requests of a decision.

        MLflow has no locks and no compare-and-set, but a registered model's name is unique in every store. A holder
        that was killed is outlasted: no clock of another machine is asked.

        Raises
        ------
        UserError
            Others held it all the time, for minutes.
        """
        lock, me = f"{self.name}.lock", uuid.uuid4().hex
        deadline = time.monotonic() + 9 * LEASE
        holder, since = "", time.monotonic()
        while not self._take(lock, me):
            now = time.monotonic()
            if (seen := self._holder(lock)) != holder:
                holder, since = seen, now
            elif holder and now - since > LEASE:
                self._release(lock, holder)
            if now > deadline:
                raise UserError(
                    f"{self.name} in {self.uri} is held by other decisions without end; if there are none, delete the "
                    f"registered model {lock}"
                )
            time.sleep(0.1)
        # Broken off half-way, a decision would leave a version that no decision tells of.
        with uninterrupted():
            try:
                yield
            finally:
                self._release(lock, me)

    def _take(self, lock: str, me: str) -> bool:
        try:
            self.client.create_registered_model(lock, {"holder": me})
        except MlflowException as error:
            if _is(error, RESOURCE_ALREADY_EXISTS) or _is(error, RESOURCE_DOES_NOT_EXIST):
                return False
            raise
        return True

    def _holder(self, lock: str) -> str:
        try:
            return str(self.client.get_registered_model(lock).tags.get("holder", ""))
        except MlflowException as error:
            if _is(error, RESOURCE_DOES_NOT_EXIST):
                return ""
            raise

    def _release(self, lock: str, holder: str) -> None:
        if self._holder(lock) == holder:
            self.client.delete_registered_model(lock)


def _read(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        run_id=str(found.run_id),
        source=str(found.source),
        tags=dict(found.tags),
        aliases=tuple(found.aliases),
    )


def _is(error: MlflowException, code: int) -> bool:
    return bool(error.error_code == ErrorCode.Name(code))
