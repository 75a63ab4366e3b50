"""Models in memory: which versions are loaded, which one answers, and who is still using an old one.

`cloud.repository` knows what is on disk. A version is put into the table only when it is loaded and warm, and
is taken out before it is stopped; so at every moment each request finds a version that answers.
"""

import asyncio

from cloud.config import CloudConfig
from cloud.loaded import LoadedModel
from cloud.metrics import Metrics
from cloud.network import Network
from cloud.repository import Entry, Repository, version_key
from cloud.vision import Vision
from common.errors import ConfigError, ModelError, NotFoundError
from common.log import get_logger
from common.model.manifest import MODEL_FILE
from common.model.session import Model, open_session


class Registry:
    """The loaded models. Belongs to the event loop; loading happens on a thread."""

    def __init__(self, repository: Repository, config: CloudConfig, metrics: Metrics) -> None:
        self.repository = repository
        self._config = config
        self._metrics = metrics
        self._loaded: dict[str, dict[str, LoadedModel]] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._default = config.models.default
        self._log = get_logger("registry")

    @property
    def default(self) -> str:
        """The name that answers requests without one; empty when there is none."""
        return self._default

    def models(self) -> list[LoadedModel]:
        """All loaded versions, by name, oldest version first."""
        return [
            self._loaded[name][version]
            for name in sorted(self._loaded)
            for version in sorted(self._loaded[name], key=version_key)
        ]

    def get(self, name: str = "", version: str = "") -> LoadedModel:
        """The model of that name and version; without a version the newest, without a name the default.

        Raises:
            NotFoundError: it is not loaded; the text says what is.
        """
        versions = self._loaded.get(name or self._default)
        if not versions:
            wanted = (
                f"model {name!r} is not loaded"
                if name
                else "the request names no model and there is no default"
            )
            raise NotFoundError(f"{wanted}; loaded are {', '.join(sorted(self._loaded)) or 'none'}")
        if not version:
            version = max(versions, key=version_key) if len(versions) > 1 else next(iter(versions))
        if version not in versions:
            raise NotFoundError(
                f"version {version!r} of model {name!r} is not loaded; loaded are {', '.join(versions)}"
            )
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """Loaded versions of `name`, oldest first."""
        return sorted(self._loaded.get(name, ()), key=version_key)

    def reason(self, name: str, version: str) -> str:
        """Why a version on disk is not loaded: the last failure, or that nobody asked for it."""
        return self._failures.get((name, version), "unloaded")

    async def load_all(self) -> None:
        """Load what the configuration asks for.

        Raises:
            ConfigError: `models.load` or `models.default` names what is not there, or nothing is.
            ModelError: one of them cannot be loaded.
        """
        wanted = self._config.models.load or tuple(self.repository.names())
        if not wanted:
            raise ConfigError(
                f"models.repository: {self.repository.root} holds no <name>/<version>/{MODEL_FILE}"
            )
        try:
            for one in wanted:
                name, _, version = one.partition("@")
                await self.load(name, version)
        except NotFoundError as error:
            raise ConfigError(f"models.load: {error}") from error
        if self._default and self._default not in self._loaded:
            raise ConfigError(
                f"models.default: {self._default!r} is not among the loaded {sorted(self._loaded)}"
            )
        if not self._default and (self._config.models.load or len(wanted) == 1):
            self._default = wanted[0].partition("@")[0]

    async def load(self, name: str, version: str = "") -> LoadedModel:
        """Load and warm a version, then let it answer; the same version loaded before is replaced.

        Raises:
            NotFoundError: it is not in the repository.
            ModelError: it is broken; what was loaded stays.
        """
        entry = self.repository.find(name, version)
        key = (name, entry.model_id.version)
        try:
            network, vision = await asyncio.to_thread(self._open, entry)
        except ModelError as error:
            self._failures[key] = str(error)
            raise
        self._failures.pop(key, None)
        batching = self._config.batching_of.get(name, self._config.batching)
        metrics = self._metrics.of_model(entry.model_id)
        loaded = LoadedModel(entry.model_id, network, vision, batching, metrics)
        versions = self._loaded.setdefault(name, {})
        replaced = versions.get(entry.model_id.version)
        versions[entry.model_id.version] = loaded
        self._count()
        self._log.info("loaded", model=str(entry.model_id), providers=network.session.get_providers())
        if replaced:
            await self._retire(replaced)
        return loaded

    async def swap(self, name: str) -> None:
        """Load the newest version on disk; when it answers, unload the versions before it.

        Raises:
            NotFoundError: it is not in the repository.
            ModelError: it is broken; what was loaded stays and answers.
        """
        newest = (await self.load(name)).model_id.version
        for version in self.versions(name):
            if version != newest:
                await self.unload(name, version)

    async def unload(self, name: str, version: str = "") -> None:
        """Stop a version from answering, then stop it; without a version, all of them.

        Raises:
            NotFoundError: it is not loaded.
        """
        self.get(name, version)
        versions = self._loaded[name]
        gone = [versions.pop(one) for one in ([version] if version else list(versions))]
        if not versions:
            del self._loaded[name]
        self._count()
        for loaded in gone:
            await self._retire(loaded)
            self._log.info("unloaded", model=str(loaded.model_id))

    async def close(self) -> None:
        """Stop every model."""
        for name in list(self._loaded):
            await self.unload(name)

    async def _retire(self, loaded: LoadedModel) -> None:
        """Wait for those who found the model before it left the table, then stop its threads."""
        try:
            await asyncio.wait_for(loaded.unused.wait(), self._config.drain_timeout_s)
        except TimeoutError:
            self._log.warning("unloading while in use", model=str(loaded.model_id), users=loaded.users)
        await loaded.stop()

    def _open(self, entry: Entry) -> tuple[Network, Vision | None]:
        if not entry.has_manifest:
            network = Network(entry.model_id, open_session(entry.path / MODEL_FILE, self._config.session))
            network.warm_up(self._config.session.warm_up_runs)
            return network, None
        model = Model.load(entry.path, self._config.session)
        if model.model_id != entry.model_id:
            raise ModelError(
                f"{entry.path}: model.yaml says {model.model_id}; the folders say {entry.model_id}"
            )
        network = Network(entry.model_id, model.session)
        network.warm_up(1)
        return network, Vision(model, self._config.limits.max_pixels)

    def _count(self) -> None:
        self._metrics.loaded_models.set(len(self.models()))
