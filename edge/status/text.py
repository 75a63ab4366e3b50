"""A status for people: one line a thing, plain text."""

import time
from collections.abc import Iterator

from spillover.common.log import printable
from spillover.edge.status.health_text import health_lines
from spillover.edge.status.values import (
    BudgetStatus,
    CameraStatus,
    FrameStatus,
    LinkStatus,
    SinkStatus,
    SpoolStatus,
    Status,
    TrackingStatus,
)
from spillover.edge.status.verdict import Verdict, failures, listed, losses, total, verdict
from spillover.edge.status.words import duration, size

_WIDTH = 11


def to_text(status: Status) -> str:
    """The whole; the last line is the verdict."""
    # Causes of errors are texts of strangers: of a camera's program, a broker, or whoever has answered.
    return "\n".join(printable(f"{name:<{_WIDTH}}{text}".rstrip()) for name, text in _lines(status))


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    yield (
        "device",
        f"{status.device_id}, mode {status.mode}, up {duration(status.uptime_s)} "
        f"(process {status.process_id}, version {status.version}, {status.config or 'no file'})",
    )
    model = status.model
    dropped = f"; BOXES DROPPED: {listed(model.boxes_dropped)}" if model.boxes_dropped else ""
    yield "model", f"{model.name}@{model.version}, sha256 {model.sha256[:12]}{dropped}"
    for camera in status.cameras:
        yield "camera", _camera(camera)
        if camera.tracking:
            yield "tracks", _tracking(camera.tracking)
        for zone in camera.zones:
            yield "zone", f"{camera.name}, {zone.name}: {zone.count} inside ({listed(zone.classes)})"
        for line in camera.lines:
            yield "line", f"{camera.name}, {line.name}: {line.in_count} in, {line.out_count} out"
    yield from _frames(status.frames)
    if status.link is None:
        yield "cloud", "none: nothing leaves this device"
    else:
        yield from _link(status.link)
    if status.budget:
        yield "budget", _budget(status.budget)
    if status.spool:
        yield from _spool(status.spool)
    for sink in status.sinks:
        yield "sink", _sink(sink)
    if status.edge_error:
        found = status.edge_error
        yield (
            "edge error",
            f"{found.share:.1%} of the frames are kept and wrong ({found.low:.1%} to {found.high:.1%}), "
            f"by {found.audits} audits",
        )
    yield from health_lines(status)
    yield from _verdict(status)


def _camera(camera: CameraStatus) -> str:
    since = f" for {duration(camera.state_age_s)}" if camera.state_age_s is not None else ""
    detail = f" ({camera.detail})" if camera.detail else ""
    scene = f"; the scene asks for {_rate(camera.scene_fps)}" if camera.scene_fps is not None else ""
    thinned = f"; passed over: {listed(camera.thinned)}" if camera.thinned else ""
    reused = f"; not looked at again: {camera.reused}" if camera.reused else ""
    return (
        f"{camera.name}: {camera.state}{since}{detail}, {_rate(camera.frames_per_s)}, "
        f"{camera.captured} frames from {camera.source}{scene}{thinned}{reused}"
    )


def _tracking(tracking: TrackingStatus) -> str:
    return f"{tracking.shown} shown, {tracking.cuts} cuts; not tracked: {listed(tracking.dropped)}"


def _frames(frames: FrameStatus) -> Iterator[tuple[str, str]]:
    yield (
        "frames",
        f"{frames.captured} captured = {frames.edge} edge + {frames.cloud} cloud in time + "
        f"{frames.edge_degraded} edge_degraded + {total(frames.dropped)} dropped + "
        f"{frames.under_way} under way; {_rate(frames.answered_per_s)} answered",
    )
    if frames.dropped:
        yield "dropped", listed(frames.dropped)


def _link(link: LinkStatus) -> Iterator[tuple[str, str]]:
    why = f", because of {link.breaker_reason}" if link.breaker_reason else ""
    passes = "calls pass" if link.breaker == "closed" else "calls pause"
    yield (
        "cloud",
        f"{link.address}: {passes} for {duration(link.breaker_age_s)} (breaker {link.breaker}){why}",
    )
    if link.misfit:
        yield "pair", f"EDGE AND CLOUD DO NOT FIT: {link.misfit}"
    if link.round_trip_s is not None and link.bytes_per_s is not None:
        yield (
            "link",
            f"round trip {link.round_trip_s * 1000:.0f} ms, {link.bytes_per_s * 8 / 1e6:.2f} Mbit/s; "
            f"{link.in_flight} calls in flight",
        )
    else:
        yield "link", f"not measured yet; {link.in_flight} calls in flight"
    yield "calls", f"{link.attempted} attempted, {link.sent} sent; failed: {listed(link.failed)}"
    if link.payload:
        keys = f"; keys: {listed(link.keys)}" if link.keys else ""
        yield "payload", f"{link.payload}{keys}"
    yield "sent bytes", listed(link.payload_bytes)
    if (ends := link.certificate_ends_unix_s) is not None:
        yield "identity", f"certificate ends {time.strftime('%Y-%m-%d', time.gmtime(ends))}"


def _budget(budget: BudgetStatus) -> str:
    return (
        f"{size(budget.charged_bytes)} charged, {size(budget.left_bytes)} of {size(budget.bucket_bytes)} "
        "may leave now"
    )


def _spool(spool: SpoolStatus) -> Iterator[tuple[str, str]]:
    yield (
        "spool",
        f"{spool.recovered} found + {spool.accepted} accepted = {listed(spool.fates)} + "
        f"{spool.pending} pending ({size(spool.pending_bytes)}); refused: {listed(spool.refused)}",
    )
    if spool.pending:
        yield "", f"the oldest has waited {duration(spool.oldest_age_s)}"


def _sink(sink: SinkStatus) -> str:
    text = f"{sink.name}: {sink.stored} results stored, {sink.waiting} waiting, {total(sink.lost)} lost"
    if sink.events_lost:
        text += f", {total(sink.events_lost)} events lost"
    if not sink.last_error:
        return text
    when = f"{duration(sink.last_error_age_s or 0.0)} ago"
    return f"{text}; {'fails' if sink.failing else 'works again'}, last error {when}: {sink.last_error}"


def _verdict(status: Status) -> Iterator[tuple[str, str]]:
    frames = status.frames
    if status.link is not None:
        wanted = f"of those wanted from the cloud in time {_share(frames.on_time_share)}"
        yield "shares", f"of all frames sent {_share(frames.sent_share)}; {wanted}"
    for line in losses(status):
        yield "LOST", line
    for line in failures(status):
        yield "FAILS", line
    found = verdict(status)
    yield ("books" if found in {Verdict.BALANCED, Verdict.GIVEN_UP} else "BOOKS"), found.value


def _share(share: float | None) -> str:
    return "none yet" if share is None else f"{share:.0%}"


def _rate(per_s: float | None) -> str:
    return "no rate yet" if per_s is None else f"{per_s:.1f} frames/s"
