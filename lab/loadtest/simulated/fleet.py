"""Some simulated edges on one event loop: real connections, real payloads, an edge's own rules for calls."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc.aio
import numpy as np

from spillover.common.types import Action
from spillover.common.wire.conversion import DEVICE_KEY
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import SEND_ALL, Policy
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.uplink.call_status import CallStatus, LinkSignal
from spillover.edge.uplink.in_flight import Call, InFlight
from spillover.edge.uplink.limits import BreakerRule
from spillover.lab.loadtest.outcomes import CLOUD, DEGRADED, EDGE, Outcomes
from spillover.lab.loadtest.simulated.arrivals import Arrivals
from spillover.lab.loadtest.simulated.job import Job, Payload

_METHOD = "/spillover.v1.Spillover/Infer"
_CONNECT_AT_ONCE = 50


@dataclass(slots=True)
class _Edge:
    """One simulated device: its connection, and an edge's own cap, breaker and obedience to pushback."""

    name: str
    channel: grpc.aio.Channel
    call: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"
    in_flight: InFlight


@dataclass(slots=True, eq=False)
class FrameLog:
    """What became of each wanted frame, filled in as calls end. Seconds from when the frame was due."""

    first_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    final_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    ending: np.ndarray[tuple[int], np.dtype[np.int8]]
    sent: np.ndarray[tuple[int], np.dtype[np.bool_]]
    late: np.ndarray[tuple[int], np.dtype[np.bool_]]
    delay_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    server_queue_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    server_infer_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    reasons: dict[int, str] = field(default_factory=dict)


class SimulatedFleet:
    """Edges `edges` of `job`, each connected to its link: one address, or one for each link of the job."""

    def __init__(self, job: Job, addresses: Sequence[str], edges: range, arrivals: Arrivals) -> None:
        self._job = job
        self._arrivals = arrivals
        self._policy = policy_of_wanted_frames(forecast=job.forecast)
        links = {number: (number - job.first_edge) // job.share % len(addresses) for number in edges}
        self._edges = {number: _edge(number, addresses[link], job) for number, link in links.items()}
        # The frame's fields and the payload's are made apart: protobuf merges messages that are put together.
        self._payloads = [_payload_field(payload) for payload in job.payloads]
        count = len(arrivals)
        local_s = arrivals.local_s
        self.log = FrameLog(
            first_s=local_s.copy(),
            final_s=local_s.copy(),
            ending=np.where(arrivals.wanted, DEGRADED, EDGE).astype(np.int8),
            sent=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
            delay_s=np.full(count, np.nan),
            server_queue_s=np.full(count, np.nan),
            server_infer_s=np.full(count, np.nan),
        )

    async def connect(self) -> None:
        """Open every connection before the first frame, as a device that has been on for a while.

        Raises:
            TimeoutError: not all of them within the job's limit.
        """
        gate = asyncio.Semaphore(_CONNECT_AT_ONCE)

        async def one(edge: _Edge) -> None:
            async with gate:
                await edge.channel.channel_ready()

        async with asyncio.timeout(self._job.connect_limit_s):
            await asyncio.gather(*(one(edge) for edge in self._edges.values()))

    async def play(self, start_s: float) -> None:
        """Send every wanted frame at its time and wait for the ends; `start_s` is by `time.monotonic`."""
        calls: set[asyncio.Task[None]] = set()
        departs_s = self._arrivals.departs_s
        wanted = np.flatnonzero(self._arrivals.wanted)
        for index in wanted[np.argsort(departs_s[wanted], kind="stable")].tolist():
            at_s = start_s + departs_s[index]
            if (left_s := at_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            now = time.monotonic()
            self.log.delay_s[index] = now - at_s
            if (call := self._begin(index, start_s, now)) is not None:
                calls.add(call)
                call.add_done_callback(calls.discard)
        if calls:
            await asyncio.wait(calls)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(edge.channel.close(None) for edge in self._edges.values()))

    def outcomes(self, start_unix_s: float) -> Outcomes:
        """What became of the frames of the window."""
        job, arrivals, log = self._job, self._arrivals, self.log
        here = (arrivals.due_s >= job.warm_up_s) & (arrivals.due_s < job.warm_up_s + job.window_s)
        inside = set(np.flatnonzero(here).tolist())
        return Outcomes(
            intended_s=start_unix_s + arrivals.due_s[here],
            first_s=log.first_s[here],
            final_s=log.final_s[here],
            emit_s=log.first_s[here],
            ending=log.ending[here],
            offered=log.sent[here],
            sent=log.sent[here],
            late=log.late[here],
            payload_bytes=self._sent_bytes()[here],
            server_queue_s=log.server_queue_s[here],
            server_infer_s=log.server_infer_s[here],
            reasons=dict(Counter(reason for index, reason in log.reasons.items() if index in inside)),
        )

    def payload_bytes(self) -> int:
        """Of all frames that were sent, warm-up included."""
        return int(self._sent_bytes().sum())

    def delays_s(self) -> Sequence[float]:
        """How far behind its schedule each request of the window left."""
        due_s = self._arrivals.due_s
        here = (due_s >= self._job.warm_up_s) & ~np.isnan(self.log.delay_s)
        return [float(delay_s) for delay_s in self.log.delay_s[here]]

    def _sent_bytes(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        sizes = np.array([len(payload.data) for payload in self._job.payloads], np.int64)
        return np.where(self.log.sent, sizes[self._arrivals.payload], 0)

    def _begin(self, index: int, start_s: float, now: float) -> "asyncio.Task[None] | None":
        """Send a frame, or keep it where an edge's own policy would hold it back."""
        edge = self._edges[int(self._arrivals.edge[index])]
        left_s = start_s + self._arrivals.due_s[index] + self._job.deadline_s - self._job.margin_s - now
        decision = self._policy.decide(Context(left_s, edge.in_flight.state()))
        if decision.action is Action.KEEP:
            self.log.reasons[index] = decision.reason
            return None
        call = Call(now + left_s)
        edge.in_flight.start(call)
        self.log.sent[index] = True
        return asyncio.ensure_future(self._call(edge, call, index, start_s, left_s))

    async def _call(self, edge: _Edge, call: Call, index: int, start_s: float, left_s: float) -> None:
        due_s = start_s + self._arrivals.due_s[index]
        promise_s = self._job.deadline_s - self._job.margin_s
        status: CallStatus | None = None
        started_s = time.monotonic()
        request, limit_s = self._request(edge, index, left_s), left_s + self._job.late_window_s
        rpc = edge.call(request, timeout=limit_s, metadata=((DEVICE_KEY, edge.name),))
        try:
            self._note_timings(index, await rpc)
            edge.in_flight.observe_latency(time.monotonic() - started_s)
        except grpc.aio.AioRpcError as failure:
            status = CallStatus.of_grpc(failure.code().name)
            edge.in_flight.note_hints(_trailers(failure))
        except asyncio.CancelledError:
            status = CallStatus.CANCELLED
            raise
        finally:
            edge.in_flight.finish(call, status.means.link if status else LinkSignal.GOOD)
        took_s = time.monotonic() - due_s
        log = self.log
        log.first_s[index] = min(took_s, promise_s)
        if status:
            log.final_s[index] = log.first_s[index]
            log.reasons[index] = status.value
        else:
            log.final_s[index] = took_s
            log.late[index] = took_s > promise_s
            log.ending[index] = DEGRADED if took_s > promise_s else CLOUD
            if took_s > promise_s:
                log.reasons[index] = "no answer by the deadline"

    def _note_timings(self, index: int, reply: bytes) -> None:
        timings = pb.InferReply.FromString(reply).timings
        self.log.server_queue_s[index] = timings.queue_us / 1e6
        self.log.server_infer_s[index] = timings.infer_us / 1e6

    def _request(self, edge: _Edge, index: int, left_s: float) -> bytes:
        frame = pb.InferRequest(
            frame_id=f"{edge.name}-{index}",
            device_id=edge.name,
            camera_id="camera",
            boot_id="loadtest",
            sequence=index,
            model=pb.ModelRef(name=self._job.model_name, version=self._job.model_version),
            time_left_us=max(1, round(left_s * 1e6)),
            captured_unix_us=round(time.time() * 1e6),
            max_classes=self._job.max_classes,
        )
        payload: bytes = self._payloads[self._arrivals.payload[index]]
        return bytes(frame.SerializeToString()) + payload


def policy_of_wanted_frames(*, forecast: bool = True) -> Policy:
    """The edge's policy for frames that the recorded edge wanted answered by the cloud."""
    return Policy(SEND_ALL, [LinkGuard(forecast=forecast)])


def _edge(number: int, address: str, job: Job) -> _Edge:
    options = [
        ("grpc.use_local_subchannel_pool", 1),  # a connection for each edge, as each device has its own
        ("grpc.enable_retries", 0),
    ]
    channel = grpc.aio.insecure_channel(address, options=options)
    rule = BreakerRule(job.breaker_failures, pause_max_s=job.breaker_pause_max_s)
    draw = random.Random(number).random  # noqa: S311 - spreads probes, guards nothing
    in_flight = InFlight(job.max_in_flight, rule, time.monotonic, draw, lambda _: None)
    # `bytes` as serializer gives back what it gets: the request is bytes already.
    return _Edge(f"simulated-{number}", channel, channel.unary_unary(_METHOD, bytes, bytes), in_flight)


def _payload_field(payload: Payload) -> bytes:
    if payload.head_sha256:
        features = pb.Features(head_sha256=bytes.fromhex(payload.head_sha256), data=payload.data)
        return bytes(pb.InferRequest(features=features).SerializeToString())
    image = pb.EncodedImage(format=pb.EncodedImage.FORMAT_JPEG, data=payload.data)
    return bytes(pb.InferRequest(image=image).SerializeToString())


def _trailers(failure: grpc.aio.AioRpcError) -> Iterable[tuple[str, str | bytes]]:
    return cast("Iterable[tuple[str, str | bytes]]", failure.trailing_metadata() or ())
