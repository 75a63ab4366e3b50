"""A good device that keeps calling while others attack, in a process of its own.

It behaves as a client should: it comes back when the server asks it to, and connects again when its
connection is lost, within the deadline of the call. `python -m tests.attack.bystander` reads an `Identity`
from its first line of input, and answers each further line with what has become of its calls since then.
"""

import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np

from spillover.common.processes import bound
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.serving import jpeg_of, request_for

DEADLINE_S = 10.0
"""The deadline of its calls, the second tries included."""
_PERIOD_S = 0.05
_TENSORS_EVERY, _CONNECTS_EVERY = 4, 10
_PAUSE_S = 0.05
_ANSWER_S = 60.0
_PUSHBACK = "grpc-retry-pushback-ms"
_COMES_BACK = {
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    # What gRPC says to calls for which its queue has no place; an edge sends the frame again, too.
    grpc.StatusCode.CANCELLED,
}


@dataclass(frozen=True)
class Identity:
    """Whom it calls, and how it proves who it is."""

    address: str
    device: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    token: str = ""


class Calls(msgspec.Struct, frozen=True):
    """What has become of its calls: how many, how long each took, how those that failed have ended."""

    calls: int
    put_off: int
    """How often it was asked to come back, or lost its connection, and tried again."""
    failures: dict[str, int]
    """Status -> calls that were not answered by their deadline."""
    latencies_s: list[float]

    def quantile_ms(self, share: float) -> float:
        """The latency within which this share of the calls ended."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def with_those_of(self, other: "Calls") -> "Calls":
        """Both together."""
        failures = Counter(self.failures) + Counter(other.failures)
        latencies_s = [*self.latencies_s, *other.latencies_s]
        return Calls(self.calls + other.calls, self.put_off + other.put_off, dict(failures), latencies_s)


class Bystander:
    """The process of the good device."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, identity: Identity) -> Iterator["Bystander"]:
        """One that calls until the end of the block."""
        command = bound([sys.executable, "-m", "tests.attack.bystander"], signal.SIGKILL)
        environment = os.environ | {"GRPC_VERBOSITY": "NONE"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                bystander = cls(process)
                bystander.say(json.dumps(asdict(identity)))
                yield bystander
            finally:
                process.kill()

    def since(self) -> Calls:
        """What has become of the calls that ended since the last time; one that is under way is awaited."""
        self.say("")
        output = self._process.stdout
        assert output is not None
        assert select.select([output], [], [], _ANSWER_S)[0], "the good device hangs"
        return msgspec.json.decode(output.readline(), type=Calls)

    def say(self, line: str) -> None:
        """Write a line of its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answered(self, count: int) -> Calls:
        """Wait until so many further calls have ended."""
        calls = self.since()
        while calls.calls < count:
            time.sleep(_PERIOD_S)
            calls = calls.with_those_of(self.since())
        return calls


@dataclass
class Device:
    """The good device itself."""

    identity: Identity
    made: int = 0
    put_off: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect for the first time."""
        self._picture = request_for(jpeg_of((0, 0, 255), 320, 240), device_id=self.identity.device)
        self._tensor = request_to_pb(TensorRequest("identity", {"INPUT0": np.ones((1, 4), np.float32)}))
        self._metadata: list[tuple[str, str | bytes]] = [("spillover-device", self.identity.device)]
        if self.identity.token:
            self._metadata.append(("authorization", f"Bearer {self.identity.token}"))
        self._number = 0
        self._channel = self._connect()

    def call(self) -> None:
        """Make one call, with second tries where the server asks for them, and note its end."""
        self._number += 1
        if self._number % _CONNECTS_EVERY == 0:
            self._reconnect()
        began_s = time.monotonic()
        status = self._until_answered(began_s + DEADLINE_S)
        self.latencies_s.append(time.monotonic() - began_s)
        self.made += 1
        if status is not grpc.StatusCode.OK:
            self.failures[status.name] += 1

    def taken(self) -> Calls:
        """What has become of the calls since the last time."""
        calls = Calls(self.made, self.put_off, dict(self.failures), self.latencies_s)
        self.made, self.put_off, self.failures, self.latencies_s = 0, 0, Counter(), []
        return calls

    def _until_answered(self, end_s: float) -> grpc.StatusCode:
        while True:
            try:
                self._once(end_s - time.monotonic())
            except grpc.RpcError as error:
                status = error.code()
                pause_s = _pause_s(error)
                if status not in _COMES_BACK or time.monotonic() + pause_s >= end_s:
                    return status
                self.put_off += 1
                time.sleep(pause_s)
                if status is grpc.StatusCode.UNAVAILABLE:
                    self._reconnect()
            else:
                return grpc.StatusCode.OK

    def _once(self, timeout_s: float) -> None:
        if self._number % _TENSORS_EVERY == 0:
            oip_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer(
                self._tensor, timeout=timeout_s, metadata=tuple(self._metadata), wait_for_ready=True
            )
        else:
            pb_grpc.SpilloverStub(self._channel).Infer(
                self._picture, timeout=timeout_s, metadata=tuple(self._metadata), wait_for_ready=True
            )

    def _reconnect(self) -> None:
        self._channel.close()
        self._channel = self._connect()

    def _connect(self) -> grpc.Channel:
        one, options = self.identity, [("grpc.use_local_subchannel_pool", 1)]
        if not one.ca:
            return grpc.insecure_channel(one.address, options)
        pair = [_read(one.key), _read(one.certificate)] if one.key else [None, None]
        return grpc.secure_channel(one.address, grpc.ssl_channel_credentials(_read(one.ca), *pair), options)


def _pause_s(error: Any) -> float:
    """What the server asks to wait before the next try."""
    trailing = dict(error.trailing_metadata() or ())
    return max(_PAUSE_S, int(trailing.get(_PUSHBACK, 0)) / 1000)


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def main() -> None:
    """Call until the input ends."""
    asked = io.FileIO(sys.stdin.fileno())  # unbuffered: what is read ahead, no `select` would tell of
    device = Device(Identity(**json.loads(asked.readline())))
    next_s = time.monotonic()
    while True:
        device.call()
        next_s = max(next_s + _PERIOD_S, time.monotonic())
        while select.select([asked], [], [], max(0.0, next_s - time.monotonic()))[0]:
            if not asked.read(1):
                return
            sys.stdout.write(msgspec.json.encode(device.taken()).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
