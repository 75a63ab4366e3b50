"""Models in memory: which versions are loaded, which one answers, and when an old one is stopped.

`cloud.models.repository` knows what is on disk. A version is put into the table only when it is loaded and
warm, and is taken out before it is stopped; so at every moment each request finds a version that answers.
"""

import asyncio
import time

from spillover.cloud.config import CloudConfig
from spillover.cloud.models.loader import LoadSpec, OpenModel, load_spec_of, open_entry
from spillover.cloud.models.repository import Repository
from spillover.cloud.security.audit import SIGHUP, START, Actor, audit
from spillover.cloud.serving.readiness import Readiness
from spillover.cloud.serving.served_model import ServedModel
from spillover.cloud.serving.stopping import DRAINED, STOPPED, StopBudget, finished_by
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import ConfigError, ModelError, NotFoundError, UnavailableError
from spillover.common.log import get_logger
from spillover.common.model.locate import version_key
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.types import ModelId


class Registry:
    """The loaded models. Belongs to the event loop; one change at a time, and none holds up a request.

    `workers` are the threads that load and free networks, by `open_model`. `readiness` hears which of the
    models that were asked for are missing.
    """

    def __init__(
        self,
        repository: Repository,
        config: CloudConfig,
        metrics: Metrics,
        workers: Workers,
        readiness: Readiness,
        open_model: OpenModel = open_entry,
    ) -> None:
        self.repository = repository
        self.default = ""
        """The name that answers requests without one; empty when there is none."""
        self._config = config
        self._metrics = metrics
        self._workers = workers
        self._readiness = readiness
        self._asked: list[tuple[str, str]] | None = None
        """What the configuration in force asks for; None while that is still being loaded."""
        self._open_model = open_model
        self._loaded: dict[str, dict[str, ServedModel]] = {}
        self._specs: dict[ServedModel, LoadSpec] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._changing = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], ModelId] = {}
        self._hanging: set[ModelId] = set()
        self._stopped = False
        self._by = START
        """Who has asked for the change that is under way."""
        self._log = get_logger("registry")

    def models(self) -> list[ServedModel]:
        """All loaded versions, by name, oldest version first."""
        return [
            self._loaded[name][version] for name in sorted(self._loaded) for version in self.versions(name)
        ]

    @property
    def load_share(self) -> float:
        """How full the fullest model is: 0 idle, 1 refusing."""
        share = 0.0
        for versions in self._loaded.values():
            for loaded in versions.values():
                share = max(share, loaded.load)
        return share

    def versions(self, name: str) -> list[str]:
        """Loaded versions of `name`, oldest first."""
        return sorted(self._loaded.get(name, ()), key=version_key)

    def reason(self, name: str, version: str) -> str:
        """Why a version on disk is not loaded: the last failure, or `unloaded`."""
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
            wanted = f"version {version!r} of model {name or self.default!r}"
            raise NotFoundError(f"{wanted} is not loaded; loaded are {', '.join(versions)}")
        return versions[version]

    async def load_all(self) -> None:
        """Load what the configuration asks for.

        Raises:
            ConfigError: `models.load` or `models.default` names what is not there, or nothing is.
            ModelError: one of them cannot be loaded.
        """
        wanted = await self._wanted(self._config)
        try:
            for name, version in wanted:
                await self.load(name, version)
        except NotFoundError as error:
            raise ConfigError(f"models.load: {error} ({self.repository.root})") from error
        except ModelError as error:
            raise ModelError(f"models.repository: {self.repository.root}: {error}") from error
        self._asked = wanted
        self._choose_default()
        self._changed()

    async def reload(self, config: CloudConfig) -> None:
        """Follow a changed configuration and changed files; what has not changed is not touched.

        A version that cannot be loaded is logged, and the one loaded before it keeps answering.

        Raises:
            ConfigError: the repository has none of the models that are asked for; nothing has changed.
        """
        async with self._changing:
            wanted = await self._wanted(config)
            self._by = SIGHUP
            self._config = config
            for name, version in wanted:
                try:
                    await self._load_if_changed(name, version, wanted)
                except (NotFoundError, ModelError) as error:
                    self._log.error("not reloaded, what was loaded stays", model=name, error=str(error))
            self._asked = wanted
            for name in [name for name in self._loaded if name not in dict(wanted)]:
                self._drop(name)
            try:
                self._choose_default()
            except ConfigError as error:
                self._log.error("default model stays", default=self.default, error=str(error))
            self._changed()

    async def load(self, name: str, version: str = "") -> ServedModel:
        """Load and warm a version, then let it answer; the same version loaded before is replaced.

        Raises:
            NotFoundError: it is not in the repository.
            ModelError: it is broken; what was loaded stays.
            UnavailableError: the server has stopped meanwhile.
        """
        async with self._changing:
            self._by = START
            return await self._load(name, version)

    async def swap(self, name: str, by: Actor) -> None:
        """Load the newest version on disk, as `by` wants; when it answers, unload the versions before it.

        Raises:
            NotFoundError: it is not in the repository.
            ModelError: it is broken; what was loaded stays and answers.
            UnavailableError: the server has stopped meanwhile.
        """
        async with self._changing:
            self._by = by
            newest = (await self._load(name)).model_id.version
            for version in self.versions(name):
                if version != newest:
                    self._drop(name, version)
            self._changed()

    async def unload(self, name: str, by: Actor, version: str = "") -> None:
        """Take a version out of the table; without a version, all of them. What is in flight is answered.

        `by` is who wants it.

        Raises:
            NotFoundError: it is not loaded.
        """
        async with self._changing:
            self._by = by
            self.get(name, version)
            self._drop(name, version)
            self._changed()

    async def stop(self, deadline_s: float) -> list[str]:
        """Stop every model; names what has not ended by `deadline_s`: a run, or a request.

        Does not wait for a change that is under way: what that loads is not served any more.
        """
        self._stopped = True
        for name in list(self._loaded):
            self._drop(name, by_s=deadline_s)
        self._changed()
        await finished_by(deadline_s, *self._retiring)
        return sorted(f"a run of {model}" for model in {*self._hanging, *self._retiring.values()})

    async def _load(self, name: str, version: str = "") -> ServedModel:
        entry = self.repository.find(name, version)
        key = (name, entry.model_id.version)
        load_spec = load_spec_of(entry, self._config)
        try:
            opened = await self._workers.run(
                f"loading of {entry.model_id}", self._open_model, entry, load_spec
            )
        except ModelError as error:
            self._failures[key] = str(error)
            audit("load failed", self._by, model=str(entry.model_id), because=str(error))
            raise
        if self._stopped:
            raise UnavailableError("the server is stopping")
        self._failures.pop(key, None)
        metrics = self._metrics.of_model(entry.model_id)
        loaded = ServedModel(entry.model_id, opened, load_spec.batching, metrics)
        versions = self._loaded.setdefault(name, {})
        replaced = versions.get(key[1])
        versions[key[1]] = loaded
        self._specs[loaded] = load_spec
        if replaced:
            self._retire(replaced)
        self._changed()
        audit("load", self._by, model=str(entry.model_id))
        known = {"sha256": opened.vision.manifest.sha256[:12]} if opened.vision else {}
        if unused := opened.unused_batch_size(load_spec.batching):
            self._log.warning("batching", model=str(entry.model_id), error=unused)
        self._log.info("loaded", model=str(entry.model_id), device=loaded.executor.device.value, **known)
        return loaded

    async def _load_if_changed(self, name: str, version: str, wanted: list[tuple[str, str]]) -> None:
        entry = self.repository.find(name, version)
        loaded = self._loaded.get(name, {}).get(entry.model_id.version)
        if not loaded or self._specs[loaded] != load_spec_of(entry, self._config):
            loaded = await self._load(name, entry.model_id.version)
        for other in self.versions(name):
            if (name, other) not in wanted and other != loaded.model_id.version:
                self._drop(name, other)

    def _drop(self, name: str, version: str = "", by_s: float | None = None) -> None:
        """Take one version, or all, out of the table. They stop when those who use them are answered."""
        versions = self._loaded[name]
        for gone in [version] if version else list(versions):
            self._retire(versions.pop(gone), by_s)
            if by_s is None:
                audit("unload", self._by, model=str(ModelId(name, gone)))
        if not versions:
            del self._loaded[name]

    def _retire(self, loaded: ServedModel, by_s: float | None = None) -> None:
        del self._specs[loaded]
        task = asyncio.create_task(self._stop_when_unused(loaded, by_s))
        self._retiring[task] = loaded.model_id
        task.add_done_callback(self._retiring.pop)

    async def _stop_when_unused(self, loaded: ServedModel, by_s: float | None) -> None:
        budget = StopBudget(self._config.stop_timeout_s if by_s is None else by_s - time.monotonic())
        if not await finished_by(budget.until(DRAINED), loaded.unused.wait()):
            self._log.warning("stopping while in use", model=str(loaded.model_id), users=loaded.users)
        if await loaded.stop(budget.until(STOPPED), self._workers):
            self._log.info("unloaded", model=str(loaded.model_id))
        else:
            self._hanging.add(loaded.model_id)
            self._log.error("left behind while a run of it hangs", model=str(loaded.model_id))

    async def _wanted(self, config: CloudConfig) -> list[tuple[str, str]]:
        """Names and versions to load; an empty version is the newest.

        Raises:
            ConfigError: the repository has none of them.
        """
        names = await self._workers.run("listing of the repository", self.repository.names)
        if not names:
            raise ConfigError(
                f"models.repository: {self.repository.root} has no <name>/<version>/{MODEL_FILE}"
            )
        parts = [one.partition("@") for one in config.models.load or names]
        if not {name for name, _, _ in parts}.intersection(names):
            raise ConfigError(
                f"models.load: none of {', '.join(config.models.load)} is in {self.repository.root}; "
                f"it has {', '.join(names)}"
            )
        return [(name, version) for name, _, version in parts]

    def _choose_default(self) -> None:
        named, wanted = self._config.models.default, self._asked or []
        if named and named not in self._loaded:
            raise ConfigError(f"models.default: {named!r} is not among the loaded {sorted(self._loaded)}")
        only = wanted[0][0] if wanted and (self._config.models.load or len(wanted) == 1) else ""
        self.default = named or only

    def _changed(self) -> None:
        """Tell the metrics what is loaded, and the readiness what is missing.

        A name is enough: another version that an operator has loaded stands in for the one asked for.
        """
        self._metrics.loaded_models.set(len(self.models()))
        if self._asked is None or self._stopped:
            return
        named = self._config.models.default
        if named in self._loaded:
            self.default = named
        asked = dict.fromkeys([*(name for name, _ in self._asked), named or self.default])
        self._readiness.missing(
            f"model {name} is not loaded" + (", the default" if name == (named or self.default) else "")
            for name in asked
            if name and name not in self._loaded
        )
