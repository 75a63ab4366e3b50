"""Checks the cloud: connection, identity, model, round trip and rate, with calls such as the daemon makes.

Pictures that are sent are noise made here, none of a camera's. Where a byte budget or `features_only` is
configured, no picture is sent.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.common.errors import ConfigError, InvalidInputError, ModelError
from spillover.common.images import encode_jpeg
from spillover.common.types import Image
from spillover.edge.assembly.offload import with_variants
from spillover.edge.config import EdgeConfig, Mode, PayloadKind, UplinkProtocol, VideoConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, skipped, warning
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.payload.video import VideoStreams, check_codec
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.uplink.call_status import CallStatus

if TYPE_CHECKING:
    import grpc

    from spillover.common.wire.pb import spillover_pb2 as pb
    from spillover.edge.uplink.channel import Credentials

CALL_S = 5.0
"""How long one call may take."""
_TRIES = 3
_SMALL, _LARGE = (16, 16), (240, 320)
"""Height and width of the two pictures of noise; the large one has about 60 kB."""
_LEAST_S = 0.001
"""A difference in time below this is no measurement of a rate."""


def check_cloud(case: Case) -> Iterator[Finding]:
    """The connection, and what answers there."""
    config = case.config
    if config.mode is Mode.EDGE_ONLY:
        yield skipped("cloud", "mode edge_only: nothing is sent")
        return
    import grpc  # takes 15 MB that a daemon without a cloud does not need

    from spillover.edge.uplink.channel import Credentials, channel_options

    credentials = Credentials(config.uplink)
    with credentials.channel(channel_options(config.uplink)) as channel:
        look = _look_at_oip if config.uplink.protocol is UplinkProtocol.OIP else _look_at_spillover
        try:
            yield from look(case, channel, credentials)
        except grpc.RpcError as error:
            yield _refused(config, credentials, error)


def _look_at_spillover(case: Case, channel: "grpc.Channel", credentials: "Credentials") -> Iterator[Finding]:
    from spillover.common.wire.pb import spillover_pb2 as pb
    from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub

    config = case.config
    stub = SpilloverStub(channel)
    metadata = _metadata(config, credentials)
    stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S, metadata=metadata)  # connects
    reply, round_trip_s = _quickest(
        lambda: stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S, metadata=metadata)
    )
    yield ok("cloud", f"{config.uplink.address} accepts this device, round trip {round_trip_s * 1000:.1f} ms")
    good = _model_of(case, reply)
    yield good
    if not good.cure:
        yield from sees(case, reply)
        yield from _transfer(case, channel, metadata)
        if config.uplink.payload is PayloadKind.VIDEO and not config.policy.budget:
            yield from _begin_stream(config, channel, metadata)


def _model_of(case: Case, reply: "pb.ListModelsReply") -> Finding:
    """Whether the model that is asked for is there, and for the task of the edge's."""
    wanted, version = case.config.uplink.model_name, case.config.uplink.model_version
    loaded = ", ".join(f"{one.model.name}@{one.model.version}" for one in reply.models) or "none"
    fitting = _asked_for(case, reply)
    if not fitting:
        asked = f"{wanted or 'a default model'}{f'@{version}' if version else ''}"
        cure = "name one of them as uplink.model_name, or load it on the server"
        return failed("cloud model", f"{asked} is not loaded; loaded are: {loaded}", cure)
    found = fitting[-1]
    name = f"{found.model.name}@{found.model.version}"
    task = case.model.folder.task.name if case.model else ""
    if task and found.task != task:
        figure = f"{name} is for {found.task}, the edge's model for {task}: no answer can be used"
        return failed("cloud model", figure, f"name a model for {task} as uplink.model_name")
    return ok("cloud model", f"{name}, {found.task}")


def _asked_for(case: Case, reply: "pb.ListModelsReply") -> "list[pb.ModelInfo]":
    """The loaded versions of the model that the configuration asks for."""
    wanted, version = case.config.uplink.model_name, case.config.uplink.model_version
    return [
        one
        for one in reply.models
        if (one.model.name == wanted if wanted else one.is_default) and version in {"", one.model.version}
    ]


def sees(case: Case, reply: "pb.ListModelsReply") -> Iterator[Finding]:
    """Whether video, or pictures that refresh tracks, hold what the model sees, where nobody named a size."""
    found, uplink = _asked_for(case, reply)[-1], case.config.uplink
    side = max(found.input_width, found.input_height)
    what = f"{found.model.name} sees {found.input_width} x {found.input_height}"
    if uplink.payload is PayloadKind.VIDEO:
        if (usual := VideoConfig().longest_side) == uplink.video.longest_side < side:
            yield warning(
                "pictures",
                f"video has {usual} pixels, {what}",
                f"set uplink.video.longest_side to {side}",
            )
        return
    if case.model is None or uplink.variants is not None:
        return
    for variant in with_variants(case.config, case.model.folder.task).uplink.variants or ():
        if (variant.longest_side or side) < side:
            yield warning(
                "pictures",
                f"tracks are refreshed with {variant.longest_side} pixels, {what}",
                f"set uplink.variants to [{{jpeg_quality: {variant.jpeg_quality}, longest_side: {side}, "
                f"fidelity: {variant.fidelity}}}]",
            )


def _transfer(
    case: Case, channel: "grpc.Channel", metadata: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    """Have two pictures answered; their difference is the rate."""
    config = case.config
    if config.policy.budget or config.uplink.payload is PayloadKind.FEATURES_ONLY:
        yield skipped("link", "no picture is sent, because of policy.budget or uplink.payload")
        return
    from spillover.edge.uplink.protocol import SpilloverWire

    wire = SpilloverWire(config.uplink, config.device_id)
    method: Callable[..., Any] = wire.method(channel)
    boot_id, rng = secrets.token_hex(6), np.random.default_rng(0)
    taken: list[tuple[int, float, float]] = []
    for sequence, size in enumerate([_SMALL] * _TRIES + [_LARGE] * _TRIES):
        frame = _frame(rng.integers(0, 255, (*size, 3), np.uint8), boot_id, sequence)
        request = wire.request(frame, config.deadline_s)
        began_s = time.monotonic()
        message = method(request, timeout=CALL_S, metadata=metadata)
        took_s = time.monotonic() - began_s
        try:
            reply = wire.reply(message, frame)
        except (InvalidInputError, ModelError) as error:
            yield failed("link", f"an answer that cannot be read: {error}", "update server and edge")
            return
        taken.append((len(frame.payload.data), took_s, max(0.0, took_s - reply.timings.total_s)))
    yield _link(config, taken[:_TRIES], taken[_TRIES:])


def _begin_stream(
    config: EdgeConfig, channel: "grpc.Channel", metadata: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    """Send one key: whether the server has codec and room for a stream, which it then drops as idle."""
    import grpc

    from spillover.edge.uplink.protocol import SpilloverWire

    image = np.zeros((*_LARGE, 3), np.uint8)
    try:
        check_codec(config.uplink)
    except (ConfigError, InvalidInputError):
        return  # `check_payload` has told
    if (payload := VideoStreams(config.uplink, 1, Metrics()).encode("doctor", image)) is None:
        return
    wire = SpilloverWire(config.uplink, config.device_id)
    method: Callable[..., Any] = wire.method(channel)
    frame = replace(_frame(image, secrets.token_hex(6), 0), payload=payload)
    try:
        method(wire.request(frame, config.deadline_s), timeout=CALL_S, metadata=metadata)
    except grpc.RpcError as error:
        call: Any = error
        if CallStatus.of_grpc(call.code().name, call.details()) is not CallStatus.STREAM_REFUSED:
            raise
        yield warning(
            "video",
            f"JPEG goes in place of video: {call.details().removeprefix('stream: ')}",
            "install the extra `video` on the server, or give it a larger limits.stream_bytes",
        )
    else:
        yield ok("video", "the server has begun a stream")


def _link(
    config: EdgeConfig, small: list[tuple[int, float, float]], large: list[tuple[int, float, float]]
) -> Finding:
    round_trip_s, with_payload_s = (median(net_s for _, _, net_s in taken) for taken in (small, large))
    took_s = median(whole_s for _, whole_s, _ in large)
    sent_bytes = large[0][0] - small[0][0]
    longer_s = with_payload_s - round_trip_s
    rate = (
        f"{sent_bytes * 8 / longer_s / 1e6:.1f} Mbit/s"
        if longer_s >= _LEAST_S
        else "a rate too high to measure"
    )
    figure = (
        f"round trip {round_trip_s * 1000:.1f} ms, {rate}; a picture of {large[0][0] / 1000:.0f} kB is "
        f"answered in {took_s * 1000:.0f} ms"
    )
    if took_s > config.deadline_s:
        cure = "a longer deadline_s, smaller pictures (uplink.longest_side), or a better link"
        return warning("link", f"{figure}, deadline_s is {config.deadline_s:g}", cure)
    return ok("link", figure)


def _frame(image: Image, boot_id: str, sequence: int) -> EncodedFrame:
    picture = encode_jpeg(image, 85)
    return EncodedFrame(f"doctor-{boot_id}-{sequence}", "doctor", boot_id, sequence, time.time(), picture)


def _look_at_oip(case: Case, channel: "grpc.Channel", credentials: "Credentials") -> Iterator[Finding]:
    from spillover.common.wire.pb import open_inference_pb2 as pb
    from spillover.common.wire.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
    from spillover.edge.payload.tensors import TensorEncoder

    config, oip = case.config, case.config.uplink.oip
    assert oip is not None  # noqa: S101 - the configuration has been checked
    stub, metadata = GRPCInferenceServiceStub(channel), _metadata(config, credentials)
    stub.ServerLive(pb.ServerLiveRequest(), timeout=CALL_S, metadata=metadata)  # connects
    _, round_trip_s = _quickest(
        lambda: stub.ServerLive(pb.ServerLiveRequest(), timeout=CALL_S, metadata=metadata)
    )
    yield ok("cloud", f"{config.uplink.address} answers, round trip {round_trip_s * 1000:.1f} ms")
    name = config.uplink.model_name
    if not name and case.model:
        name = TensorEncoder(config.uplink, oip, case.model.folder.task).manifest.name
    described = stub.ModelMetadata(
        pb.ModelMetadataRequest(name=name, version=config.uplink.model_version),
        timeout=CALL_S,
        metadata=metadata,
    )
    inputs, outputs = ([one.name for one in ends] for ends in (described.inputs, described.outputs))
    missing = [one for one in (oip.input,) if one not in inputs]
    missing += [one for one in oip.outputs if one not in outputs]
    if missing:
        figure = (
            f"{name} has no {', '.join(missing)}; inputs: {', '.join(inputs)}; outputs: {', '.join(outputs)}"
        )
        yield failed("cloud model", figure, "name them as the server does in uplink.oip")
    else:
        yield ok("cloud model", f"{described.name}, input {oip.input}, outputs {', '.join(oip.outputs)}")


def _quickest(call: Callable[[], Any]) -> tuple[Any, float]:
    """A few calls: the last answer, and the shortest time."""
    taken_s, reply = [], None
    for _ in range(_TRIES):
        began_s = time.monotonic()
        reply = call()
        taken_s.append(time.monotonic() - began_s)
    return reply, min(taken_s)


def _metadata(config: EdgeConfig, credentials: "Credentials") -> tuple[tuple[str, str], ...]:
    from spillover.common.wire.conversion import DEVICE_KEY

    return ((DEVICE_KEY, config.device_id), *credentials.metadata())


def _refused(config: EdgeConfig, credentials: "Credentials", error: Any) -> Finding:  # noqa: ANN401 - gRPC's
    """What a failed call, an `RpcError` that is a `Call`, means, and what to do."""
    details, address, code = error.details() or "", config.uplink.address, error.code().name
    details = details.rpartition("last error: ")[2]  # before it gRPC says that all addresses failed
    if code == "UNAVAILABLE" and (why := credentials.why_no_connection(details)):
        return failed("cloud", f"{address}: {why}", "see docs/guides/security.md")
    check, meaning, cure = _MEANINGS.get(code, ("cloud", code.lower(), "look into the server's log"))
    return failed(check, f"{address} {meaning}: {details}", cure)


_NOBODY = "is the server running, is uplink.address right, does a firewall let it pass?"
_MEANINGS = {
    "UNAUTHENTICATED": (
        "cloud",
        "does not know who this is",
        "give this device a certificate or token: `spillover cloud certs` or `tokens` on the server",
    ),
    "PERMISSION_DENIED": (
        "cloud",
        "does not permit this device",
        "give it the role `device`, and the name that stands in device_id",
    ),
    "NOT_FOUND": ("cloud model", "has no such model", "name a model of the server as uplink.model_name"),
    "UNIMPLEMENTED": (
        "cloud",
        "does not speak this protocol",
        "set uplink.protocol to what the server speaks: spillover or oip",
    ),
    "UNAVAILABLE": ("cloud", "does not answer", _NOBODY),
    "DEADLINE_EXCEEDED": ("cloud", f"does not answer within {CALL_S:g} s", _NOBODY),
}
"""gRPC's status -> the line of the table, what it says of the server, and the cure."""
