"""Models in memory: which versions are loaded, which one answers, and when an old one may go.

`cloud.models.repository` knows what is on disk. A version is put into the table only when it is loaded and
warm, and is taken out before it is stopped; so at every moment each request finds a version that answers.
"""

import asyncio

from spillover.cloud.config import CloudConfig
from spillover.cloud.models.loader import LoadSpec, load_spec_of, open_entry
from spillover.cloud.models.repository import Repository
from spillover.cloud.serving.served_model import ServedModel
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import ConfigError, ModelError, NotFoundError
from spillover.common.log import get_logger
from spillover.common.model.locate import version_key
from spillover.common.model.manifest import MODEL_FILE


class Registry:
    """The loaded models. Belongs to the event loop; one change at a time, and none holds up a request."""

    def __init__(self, repository: Repository, config: CloudConfig, metrics: Metrics) -> None:
        self.repository = repository
        self.default = ""
        """The name that answers requests without one; empty when there is none."""
        self._config = config
        self._metrics = metrics
        self._loaded: dict[str, dict[str, ServedModel]] = {}
        self._recipes: dict[ServedModel, LoadSpec] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._log = get_logger("registry")

    def models(self) -> list[ServedModel]:
        """All loaded versions, by name, oldest version first."""
        return [
            self._loaded[name][version] for name in sorted(self._loaded) for version in self.versions(name)
        ]

    @property
    def load_share(self) -> float:
        """How full the fullest model is: 0 idle, 1 refusing. Asked for at every answer."""
        share = 0.0
        for versions in self._loaded.values():
            for loaded in versions.values():
                share = max(share, loaded.load)
        return share

    def versions(self, name: str) -> list[str]:
        """Loaded versions of `name`, oldest first."""
        return sorted(self._loaded.get(name, ()), key=version_key)

    def reason(self, name: str, version: str) -> str:
        """Why a version on disk is not loaded: the last failure, or that nobody asked for it."""
        return self._failures.get((name, version), "unloaded")

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """The model of that name and version; without a version the newest, without a name the default.

        Raises:
            NotFoundError: it is not loaded; the text says what is.
        """
        versions = self._loaded.get(name or self.default)
        if not versions:
            wanted = f"model {name!r} is not loaded" if name else "no model is named and there is no default"
            raise NotFoundError(f"{wanted}; loaded are {', '.join(sorted(self._loaded)) or 'none'}")
        if not version:
            version = next(iter(versions)) if len(versions) == 1 else max(versions, key=version_key)
        if version not in versions:
            raise NotFoundError(
                f"version {version!r} of model {name!r} is not loaded; loaded are {', '.join(versions)}"
            )
        return versions[version]

    async def load_all(self) -> None:
        """Load what the configuration asks for.

        Raises:
            ConfigError: `models.load` or `models.default` names what is not there, or nothing is.
            ModelError: one of them cannot be loaded.
        """
        wanted = self._wanted()
        if not wanted:
            raise ConfigError(
                f"models.repository: {self.repository.root} has no <name>/<version>/{MODEL_FILE}"
            )
        try:
            for name, version in wanted:
                await self.load(name, version)
        except NotFoundError as error:
            raise ConfigError(f"models.load: {error}") from error
        self._choose_default()

    async def reload(self, config: CloudConfig) -> None:
        """Follow a changed configuration and changed files; what has not changed is not touched.

        A version that cannot be loaded is logged, and what answered in its place goes on.
        """
        self._config = config
        wanted = self._wanted()
        for name, version in wanted:
            try:
                await self._load_if_changed(name, version)
            except (NotFoundError, ModelError) as error:
                self._log.error("not reloaded, what was loaded stays", model=name, error=str(error))
        for name in [name for name in self._loaded if name not in dict(wanted)]:
            await self.unload(name)
        try:
            self._choose_default()
        except ConfigError as error:
            self._log.error("default model stays", default=self.default, error=str(error))

    async def load(self, name: str, version: str = "") -> ServedModel:
        """Load and warm a version, then let it answer; the same version loaded before is replaced.

        Raises:
            NotFoundError: it is not in the repository.
            ModelError: it is broken; what was loaded stays.
        """
        async with self._changing:
            entry = self.repository.find(name, version)
            key = (name, entry.model_id.version)
            load_spec = load_spec_of(entry, self._config)
            try:
                opened = await asyncio.to_thread(open_entry, entry, load_spec)
            except ModelError as error:
                self._failures[key] = str(error)
                raise
            self._failures.pop(key, None)
            metrics = self._metrics.of_model(entry.model_id)
            loaded = ServedModel(entry.model_id, opened, load_spec.batching, metrics)
            versions = self._loaded.setdefault(name, {})
            replaced = versions.get(key[1])
            versions[key[1]] = loaded
            self._recipes[loaded] = load_spec
            if replaced:
                self._retire(replaced)
            self._count()
            self._log.info(
                "loaded", model=str(entry.model_id), providers=loaded.network.session.get_providers()
            )
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
        """Take a version out of the table; without a version, all of them. What is in flight is answered.

        Raises:
            NotFoundError: it is not loaded.
        """
        async with self._changing:
            self.get(name, version)
            versions = self._loaded[name]
            gone = [versions.pop(one) for one in ([version] if version else list(versions))]
            if not versions:
                del self._loaded[name]
            for loaded in gone:
                self._retire(loaded)
            self._count()

    async def close(self) -> None:
        """Stop every model and wait until all are stopped."""
        for name in list(self._loaded):
            await self.unload(name)
        await asyncio.gather(*self._retiring)

    async def _load_if_changed(self, name: str, version: str) -> None:
        entry = self.repository.find(name, version)
        loaded = self._loaded.get(name, {}).get(entry.model_id.version)
        if not loaded or self._recipes[loaded] != load_spec_of(entry, self._config):
            loaded = await self.load(name, entry.model_id.version)
        for other in self.versions(name):
            if (name, other) not in self._wanted() and other != loaded.model_id.version:
                await self.unload(name, other)

    def _wanted(self) -> list[tuple[str, str]]:
        """Names and versions to load; an empty version is the newest."""
        wanted = self._config.models.load or self.repository.names()
        parts = (one.partition("@") for one in wanted)
        return [(name, version) for name, _, version in parts]

    def _choose_default(self) -> None:
        named = self._config.models.default
        if named and named not in self._loaded:
            raise ConfigError(f"models.default: {named!r} is not among the loaded {sorted(self._loaded)}")
        wanted = self._wanted()
        only = wanted[0][0] if wanted and (self._config.models.load or len(wanted) == 1) else ""
        self.default = named or only

    def _retire(self, loaded: ServedModel) -> None:
        """Stop a version that has left the table, once those who found it there have their answers."""
        del self._recipes[loaded]
        task = asyncio.create_task(self._stop_when_unused(loaded))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _stop_when_unused(self, loaded: ServedModel) -> None:
        try:
            await asyncio.wait_for(loaded.unused.wait(), self._config.drain_timeout_s)
        except TimeoutError:
            self._log.warning("stopping while in use", model=str(loaded.model_id), users=loaded.users)
        await loaded.stop()
        self._log.info("unloaded", model=str(loaded.model_id))

    def _count(self) -> None:
        self._metrics.loaded_models.set(len(self.models()))
