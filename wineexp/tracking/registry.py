"""The registered model: its versions, verified before anything is loaded from them, and the aliases that name them."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.signals import uninterrupted
from wineexp.core.trust import trusting
from wineexp.models import manifest, persistence
from wineexp.tracking import _mlflow, store
from wineexp.tracking.lease import LEASE_SECONDS, Lease
from wineexp.tracking.names import MODEL_FILES, MODEL_SHA256

# How much of a library's message is shown.
MAX_MESSAGE_CHARS = 300


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
        """SHA-256 of each file by its name, as it was registered.

        Raises
        ------
        UserError
            The version was registered without checksums.
        """
        try:
            return dict(json.loads(self.tags[MODEL_FILES]))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"version {self.number} of {self.name} has no readable tag {MODEL_FILES}, so that it cannot be "
                "verified that its files are those that were registered; it is not loaded. Promote it anew"
            ) from error


class Registry:
    """One registered model in a store.

    Parameters
    ----------
    uri : str
        `MLFLOW_TRACKING_URI` wins.
    name : str
    lease_seconds : float, optional
        How long another process may hold the lock before it counts as dead.
    access : store.Access, optional
        What it is opened for.

    Raises
    ------
    UserError
        The name is none that MLflow takes, or the store cannot be reached or opened.
    """

    def __init__(
        self, uri: str, name: str, lease_seconds: float = LEASE_SECONDS, *, access: store.Access = store.Access.WRITE
    ) -> None:
        if not name.strip() or set(name) & set("/:"):
            raise UserError(f"registry.name={name}: a registered model's name has no / and no :, and is not empty")
        self.uri = store.connect(uri, access)
        self.name = name
        self.lease_seconds = lease_seconds
        self.client = mlflow.MlflowClient()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the registry against other processes for the few requests of a decision.

        MLflow has neither locks nor compare-and-set. Ctrl-C and SIGTERM wait for the end of the block: a decision that
        was broken off would leave a version that no decision names.

        Raises
        ------
        UserError
            Other processes held it for minutes.
        """
        lease = Lease(self.client, f"{self.name}.lock", self.lease_seconds)
        lease.acquire()
        with uninterrupted():
            try:
                yield
            finally:
                lease.release()

    def aliases(self) -> dict[str, int]:
        """Number of the version that each alias names; empty where nothing is registered."""
        model = self._registered_model()
        return {alias: int(number) for alias, number in model.aliases.items()} if model else {}

    def tags(self) -> dict[str, str]:
        """Tags of the registered model; empty where nothing is registered."""
        model = self._registered_model()
        return dict(model.tags) if model else {}

    def ensure(self) -> None:
        """Make the registered model where it is missing."""
        if self._registered_model() is None:
            self.client.create_registered_model(self.name)

    def _registered_model(self) -> RegisteredModel | None:
        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if _mlflow.is_missing(error):
                return None
            raise

    def find(self, word: str) -> Version | None:
        """The version of this number, or that this alias names; None where there is none."""
        try:
            if word.isdecimal():
                return _version(self.client.get_model_version(self.name, word))
            return _version(self.client.get_model_version_by_alias(self.name, word))
        except MlflowException as error:
            if _mlflow.is_missing(error) or _mlflow.is_invalid(error):
                return None
            raise

    def versions(self) -> list[Version]:
        """All versions, the newest first; empty where nothing is registered."""
        return sorted(
            map(_version, self.client.search_model_versions(f"name = '{self.name}'")), key=lambda found: -found.number
        )

    def version(self, word: str) -> Version:
        """The version of this number, or that this alias names.

        Raises
        ------
        UserError
            There is none.
        """
        version = self.find(word)
        if version is None:
            raise UserError(
                f"{word}: {self.name} in {self.uri} has no version or alias of this name; "
                f"{did_you_mean(word, self.aliases())}"
            )
        return version

    def verify_stored_model(self, model_id: str, load_elsewhere: Callable[[Path], None]) -> dict[str, str]:
        """Verify a stored model, and give the checksums of its files as tags for its version.

        It is fetched as a server would fetch it, loaded, and predicts its golden rows.

        Parameters
        ----------
        model_id : str
        load_elsewhere : callable
            Is called with the folder of its files, to load them where it will be served, and may raise.

        Raises
        ------
        UnavailableError
            The files cannot be fetched.
        UserError
            They cannot be loaded, or the predictions are not those of when the model was stored.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._download(f"models:/{model_id}", Path(scratch))
            files = manifest.create(folder)
            gap = persistence.pipeline_golden_rows_gap(persistence.load(folder), folder)
            load_elsewhere(folder)
        if gap != 0:
            raise UserError(
                f"the stored model predicts its golden rows differently than before it was stored, by up to {gap:g}"
            )
        return {MODEL_FILES: json.dumps(files), MODEL_SHA256: manifest.digest(files)}

    def register(self, run_id: str, model_id: str, tags: Mapping[str, str]) -> Version:
        """Make a version of a stored model, with the tags of `verify_stored_model` and any others.

        Its description is that of the run, and says where the model card is, if there is one.
        """
        self.ensure()
        note = self.client.get_run(run_id).data.tags.get(_mlflow.NOTE, "")
        card = f"{manifest.EXTRA_FOLDER}/{manifest.CARD_FILE}"
        where = f"Model card: `{card}` among the files of the model." if card in tags.get(MODEL_FILES, "") else ""
        return _version(
            self.client.create_model_version(
                self.name,
                f"models:/{model_id}",
                run_id,
                dict(tags),
                model_id=model_id,
                description="\n\n".join(filter(None, [note, where])),
            )
        )

    def fetch(self, version: Version, folder: Path) -> Path:
        """Download a version's files into a folder and verify their checksums; gives where they are.

        Raises
        ------
        UnavailableError
            They cannot be fetched. In this and the next case the folder is left empty.
        UserError
            They are not those that were registered.
        """
        expected = version.files
        try:
            files = self._download(version.source, folder)
            manifest.verify(files, expected)
        except UserError as error:
            for path in folder.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            faults = (f"version {version.number} of {self.name}: {fault}" for fault in error.faults)
            raise type(error)(*faults) from error
        return files

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
            # Without a destination MLflow would write into the store, which may be read-only.
            files = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            message = " ".join(str(error).split())[:MAX_MESSAGE_CHARS]
            raise store.UnavailableError(
                f"the files at {self._location(source)} cannot be fetched: {message}"
            ) from error
        # Where the source is missing, as on a disk that is not mounted, MLflow makes an empty folder.
        if not any(path.is_file() and path.name not in manifest.ADDED_BY_DOWNLOAD for path in files.rglob("*")):
            raise store.UnavailableError(f"the files at {self._location(source)} cannot be fetched: there are none")
        return files

    def _location(self, source: str) -> str:
        """A source, and where that is if it is a stored model."""
        try:
            return f"{source} ({self.client.get_logged_model(source.removeprefix('models:/')).artifact_location})"
        except MlflowException:
            return source


def load(
    alias: str = "champion", *, name: str = "wine", uri: str = "sqlite:///mlflow.db", trust: Sequence[str] = ()
) -> Any:
    """The fitted pipeline of a registered version, its files verified against what was registered.

    Parameters
    ----------
    alias : str
        An alias, or a version's number.
    name : str
        The registered model.
    uri : str
        The MLflow store; `MLFLOW_TRACKING_URI` wins.
    trust : sequence of str
        Full names of types of one's own that the model may hold, as `trust` in a program's config.

    Raises
    ------
    UserError
        There is no such version, its files are not those that were registered, or it holds a type that is not trusted.
    """
    registry = Registry(uri, name, access=store.Access.READ)
    with trusting({"trust": trust}):
        return registry.load(registry.version(alias))


def _version(version: ModelVersion) -> Version:
    return Version(
        name=version.name,
        number=int(version.version),
        run_id=str(version.run_id),
        source=str(version.source),
        tags=dict(version.tags),
        aliases=tuple(version.aliases),
    )
