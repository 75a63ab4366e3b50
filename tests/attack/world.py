"""What is attacked: a server process on generated models, who may call it, and a good device beside them."""

import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
from onnx import TensorProto

from spillover.common.net.addresses import split_host_port
from spillover.common.security.tokens import add_token, revoke_tokens
from tests.attack.bystander import Bystander, Identity
from tests.support.models import colour_classifier, fragile_classifier, identity, lookup
from tests.support.pki import Pki
from tests.support.processes import SPILLOVER, free_port, wait_until
from tests.support.splitting import residual_classifier, split_classifier

MEMORY_BYTES = 256 << 20
"""`limits.memory_bytes` of the servers: what an attack may add to their size at rest."""
STREAM_BYTES = 64 << 20
"""`limits.stream_bytes`: of what streams keep, one caller's quarter goes unseen in the size at rest."""
STOP_S = 5.0
LOAD_S = 15.0
"""`models.load_timeout_s`: shorter than by default, since some models are to reach it."""
WIDE = 2_000_000
"""Elements of a row of the network `wide`: 8 MB in, 8 MB out."""
GOOD, WEAK, REVOKED, OPERATOR, STRANGER = "camera-good", "camera-weak", "camera-revoked", "alice", ""
_ROLES = {GOOD: "device", WEAK: "device", REVOKED: "device", OPERATOR: "operator"}


class Mode(Enum):
    """How callers prove who they are."""

    PLAIN = "plain"
    TOKEN = "token"
    MTLS = "mtls"


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of server that an attempt needs.

    `descriptors`: its limit of open files, 0 for the machine's. `own_models`: models that the attempt may
    change, two of them. `few_models`: the same two, not changed. `fresh`: no other attempt uses the process.
    """

    mode: Mode = Mode.PLAIN
    descriptors: int = 0
    own_models: bool = False
    few_models: bool = False
    fresh: bool = False


@dataclass
class Server:
    """A server process that answers, perhaps through a proxy. Sizes are in bytes."""

    kind: Kind
    mode: Mode
    process: subprocess.Popen[str]
    front: int
    """Process number of the proxy; 0: there is none."""
    address: tuple[str, int]
    metrics: tuple[str, int]
    models: Path
    log: Path
    good: Bystander
    at_rest: int = 0
    front_at_rest: int = 0

    @property
    def alive(self) -> bool:
        """Whether the process still runs, and the proxy if there is one."""
        return self.process.poll() is None and (not self.front or memory(self.front)["VmRSS"] > 0)

    def resident(self) -> int:
        """Memory in use now; 0 when the process is gone."""
        return memory(self.process.pid)["VmRSS"]

    def peak(self) -> int:
        """The most memory in use since `forget_peak`."""
        return memory(self.process.pid)["VmHWM"]

    def forget_peak(self) -> None:
        """Begin a new peak (proc(5), clear_refs)."""
        if self.alive:
            for pid in filter(None, (self.process.pid, self.front)):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def memory(pid: int) -> Mapping[str, int]:
    """Sizes of a process by the names of /proc/PID/status; zero when it is gone."""
    found = dict.fromkeys(("VmRSS", "VmHWM", "VmSize"), 0)
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return found


@dataclass
class World:
    """A folder with models, certificates and tokens, and at most one server at a time.

    `front`: Envoy stands before each server, ends TLS and passes certificates on, in place of every mode.
    """

    folder: Path
    front: bool = False
    _server: Server | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _count: int = 0

    @classmethod
    @contextmanager
    def created(cls, *, front: bool = False) -> Iterator["World"]:
        """A world in a temporary folder, which is gone at the end with all of its processes."""
        with tempfile.TemporaryDirectory(prefix="spillover-attack-") as folder:
            world = cls(Path(folder), front)
            try:
                yield world
            finally:
                world.stop()

    @cached_property
    def pki(self) -> Pki:
        """Certificates of everybody in the story, one of them revoked."""
        pki = Pki(self.folder / "pki")
        for name, role in _ROLES.items():
            pki.issue(name, role)
        pki.authority.revoke(REVOKED)
        return pki

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Tokens of the same people."""
        path = self.folder / "tokens.yaml"
        found = {name: add_token(path, name, role, None) for name, role in _ROLES.items()}
        revoke_tokens(path, REVOKED)
        return found

    @cached_property
    def models(self) -> Path:
        """The repository that servers share."""
        folder = self.folder / "models"
        write_models(folder)
        return folder

    def server(self, kind: Kind) -> Server:
        """A server of this kind: the one that runs, if it will do."""
        running = self._server
        if running and running.alive and running.kind == kind and not kind.fresh and not kind.own_models:
            return running
        self.stop()
        self._server = self._stack.enter_context(self._started(kind))
        return self._server

    def stop(self) -> None:
        """End the server that runs."""
        self._server = None
        self._stack.close()

    def client_tls(self, mode: Mode, who: str = "") -> ssl.SSLContext | None:
        """The TLS of a caller in this mode; None: it speaks in the clear."""
        if mode is Mode.PLAIN:
            return None
        return client_tls(self.pki, who if mode is Mode.MTLS else "")

    def client_metadata(self, mode: Mode, who: str) -> tuple[tuple[str, str], ...]:
        """The headers by which a caller names and proves itself in this mode."""
        named = (("spillover-device", who),) if who and mode is not Mode.PLAIN else ()
        if mode is not Mode.TOKEN or not who:
            return named
        return (*named, ("authorization", f"Bearer {self.tokens[who]}"))

    @contextmanager
    def _started(self, kind: Kind) -> Iterator[Server]:
        self._count += 1
        folder = self.folder / f"{self._count}"
        folder.mkdir()
        models = self.models
        if kind.own_models or kind.few_models:
            write_models(models := folder / "models", few=True)
        mode = Mode.MTLS if self.front else kind.mode
        ready, metrics, config = folder / "ready", free_port(), folder / "cloud.yaml"
        config.write_bytes(msgspec.yaml.encode(self._config(mode, folder, models, metrics)))
        limited = ["sh", "-c", f'ulimit -n {kind.descriptors} && exec "$@"', "sh"]
        command = [*SPILLOVER, "cloud", "-c", str(config), "--ready-file", str(ready)]
        with (log := folder / "log").open("wb") as log_file:
            process = subprocess.Popen(
                [*(limited if kind.descriptors else []), *command], stderr=log_file, text=True
            )
        try:
            _wait_for(ready, process, log)
            with ExitStack() as stack:
                address, front = ready.read_text(encoding="ascii"), 0
                if self.front:
                    envoy = stack.enter_context(_envoy(address, self.pki))
                    address, front = envoy.address, envoy.process.pid
                good = stack.enter_context(Bystander.started(self._identity(mode, address)))
                pages = ("127.0.0.1", metrics)
                server = Server(
                    kind, mode, process, front, split_host_port(address), pages, models, log, good
                )
                good.answered(20)
                server.at_rest = server.resident()
                server.front_at_rest = memory(front)["VmRSS"] if front else 0
                yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=STOP_S + 3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _config(self, mode: Mode, folder: Path, models: Path, metrics: int) -> dict[str, object]:
        config: dict[str, object] = {
            "listen": f"unix:{folder}/grpc" if self.front else "127.0.0.1:0",
            "metrics": f"127.0.0.1:{metrics}",
            "models": {"repository": str(models), "default": "colour", "load_timeout_s": LOAD_S},
            "session": {"threads": 1},
            "limits": {"memory_bytes": MEMORY_BYTES, "stream_bytes": STREAM_BYTES},
            "stop_timeout_s": STOP_S,
        }
        if self.front:
            config["security"] = {"forwarded": {"client_ca": str(self.pki.ca), "crl": str(self.pki.crl)}}
        elif mode is Mode.TOKEN:
            assert self.tokens
            tls = self.pki.server_tls(mutual=False)
            config["security"] = {"tls": tls, "tokens_file": str(self.folder / "tokens.yaml")}
        elif mode is Mode.MTLS:
            config["security"] = {"tls": self.pki.server_tls(mutual=True)}
        return config

    def _identity(self, mode: Mode, address: str) -> Identity:
        return Identity(
            address=address,
            device=GOOD,
            ca="" if mode is Mode.PLAIN else str(self.pki.ca),
            certificate=str(self.pki.certificate(GOOD)) if mode is Mode.MTLS else "",
            key=str(self.pki.key(GOOD)) if mode is Mode.MTLS else "",
            token=self.tokens[GOOD] if mode is Mode.TOKEN else "",
        )


def _wait_for(ready: Path, process: subprocess.Popen[str], log: Path) -> None:
    try:
        wait_until(ready.exists, process)
    except AssertionError as error:
        raise AssertionError(log.read_text(encoding="utf-8", errors="replace")[-2000:]) from error


def _envoy(upstream: str, pki: Pki) -> AbstractContextManager[Any]:
    from tests.support.envoy import envoy_in_front  # it wants the Python package that brings the binary

    front: AbstractContextManager[Any] = envoy_in_front(upstream, pki)
    return front


@cache
def client_tls(pki: Pki, name: str) -> ssl.SSLContext:
    """A client that trusts this CA and shows the certificate of `name`, or none."""
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    if name:
        context.load_cert_chain(pki.certificate(name), pki.key(name))
    return context


def write_models(folder: Path, *, few: bool = False) -> None:
    """Classifiers (`colour`, `fragile`), networks of tensors, and a split one (`residual`)."""
    colour_classifier(folder)
    identity(folder)
    if few:
        return
    identity(folder, "wide", width=WIDE)
    identity(folder, "strings", element=TensorProto.STRING)
    lookup(folder)
    fragile_classifier(folder, "index")
    split_classifier(residual_classifier(folder))
