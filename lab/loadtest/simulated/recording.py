"""A decision log and real payloads, made from what one real edge wrote."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import SourceError
from common.images import encode_jpeg
from common.types import Action
from edge.camera.open import open_source
from edge.camera.source import UnreadablePictureError
from edge.config import UplinkConfig
from edge.sinks.record import Record
from lab.loadtest.outcomes import Answered
from lab.loadtest.simulated.job import LoggedFrame

_PICTURES = {Action.KEEP, Action.SEND_FRAME, Action.SPOOL, Action.DROP}
_POOL = 48
"""Payloads kept at most: enough to differ as real ones do, few enough to be sent to every generator."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is replayed."""

    log: list[LoggedFrame]
    payloads: list[bytes]


def record(records: Sequence[Record], source: str, pictures: int, uplink: UplinkConfig) -> Recording:
    """The log of one edge's run, with the JPEGs that it sent made anew from `source`, of so many `pictures`.

    Of frames that were sent, at most 48 payloads are kept, evenly over the run; the other sent frames share
    them. A run that sent nothing has payloads of its first frames all the same, for a share that is drawn.

    Raises:
        SourceError: there are no records, or the source cannot be read.
    """
    frames: dict[int, Answered] = {}
    for one in records:
        known = frames.get(one.sequence)
        frames[one.sequence] = Answered(known.first if known else one, one)
    if not frames:
        raise SourceError("the recorded run has no results")
    if any(frame.first.decision.action not in _PICTURES for frame in frames.values()):
        raise SourceError("simulated edges replay pictures; the recorded run sent something else")
    numbers = sorted(frames)
    sent = [n for n in numbers if frames[n].final.payload_bytes] or numbers
    chosen = sent[:: -(-len(sent) // _POOL)]
    jpegs = _jpegs(source, {n % pictures for n in chosen}, uplink)
    payloads = [jpegs[n % pictures] for n in chosen]
    log = [_logged(frames[n], index % len(payloads)) for index, n in enumerate(numbers)]
    return Recording(log, payloads)


def scaled(recording: Recording, local_s: float) -> Recording:
    """The same decisions by a slower device: local times stretched so that their median is `local_s`."""
    factor = local_s / statistics.median(frame.local_s for frame in recording.log)
    log = [LoggedFrame(f.wanted, f.local_s * factor, f.encode_s * factor, f.payload) for f in recording.log]
    return Recording(log, recording.payloads)


def _logged(frame: Answered, payload: int) -> LoggedFrame:
    times = frame.first.timings
    local_s = times.capture_s + times.queue_s + times.preprocess_s + times.infer_s + times.decode_s
    wanted = frame.final.payload_bytes > 0 or frame.first.answered_by == "edge_degraded"
    return LoggedFrame(wanted, local_s, frame.final.timings.encode_s, payload)


def _jpegs(source: str, wanted: set[int], uplink: UplinkConfig) -> Mapping[int, bytes]:
    pictures = open_source(source)
    jpegs: dict[int, bytes] = {}
    number = 0
    try:
        while len(jpegs) < len(wanted):
            try:
                picture = pictures.read()
            except UnreadablePictureError:
                continue
            if picture is None:
                raise SourceError(f"{source} has fewer pictures than when it was recorded")
            if number in wanted:
                jpegs[number] = encode_jpeg(picture.image, uplink.jpeg_quality, uplink.longest_side).data
            number += 1
    finally:
        pictures.close()
    return jpegs


def uplink_of(edge_yaml: Path) -> UplinkConfig:
    """The uplink that a recorded edge had. Raises ConfigError."""
    from common.config import load_config
    from edge.config import EdgeConfig

    return load_config(edge_yaml, EdgeConfig).uplink
