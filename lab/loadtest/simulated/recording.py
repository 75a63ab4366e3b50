"""A decision log and real payloads, made from what one real edge wrote."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.model.locate import find_model_folder
from spillover.common.types import Decision, Frame
from spillover.edge.camera.open import open_source
from spillover.edge.camera.source import UnreadablePictureError
from spillover.edge.config import UplinkConfig
from spillover.edge.payload.encoder import PayloadEncoder
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.types import EncodedFeatures, EncodedTensor
from spillover.edge.payload.types import Payload as EdgePayload
from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.outcomes import Answered
from spillover.lab.loadtest.simulated.job import LoggedFrame, Payload
from spillover.lab.records import local_s

_POOL = 48
"""Payloads kept at most: enough to differ as real ones do, few enough to be sent to every generator."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is replayed."""

    log: list[LoggedFrame]
    payloads: list[Payload]


def record(records: Sequence[Record], source: str, pictures: int, uplink: UplinkConfig) -> Recording:
    """The log of one edge's run, and its payloads made anew from `source`, which has so many `pictures`.

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
    numbers = sorted(frames)
    sent = [n for n in numbers if frames[n].final.payload_bytes] or numbers
    chosen = sent[:: -(-len(sent) // _POOL)]
    made = _payloads(source, {n % pictures: frames[n].first.decision for n in chosen}, uplink)
    payloads = [made[n % pictures] for n in chosen]
    log = [_logged(frames[n], index % len(payloads)) for index, n in enumerate(numbers)]
    return Recording(log, payloads)


def scaled(recording: Recording, local_s: float) -> Recording:
    """The same decisions by a slower device: local times stretched so that their median is `local_s`."""
    factor = local_s / statistics.median(frame.local_s for frame in recording.log)
    log = [LoggedFrame(f.wanted, f.local_s * factor, f.encode_s * factor, f.payload) for f in recording.log]
    return Recording(log, recording.payloads)


def _logged(frame: Answered, payload: int) -> LoggedFrame:
    wanted = frame.final.payload_bytes > 0 or frame.first.answered_by == "edge_degraded"
    return LoggedFrame(wanted, local_s(frame.first), frame.final.timings.encode_s, payload)


def _payloads(source: str, wanted: Mapping[int, Decision], uplink: UplinkConfig) -> Mapping[int, Payload]:
    """The pictures of the numbers in `wanted`, each in the form that was decided on."""
    payload_encoder, pictures = _payload_encoder(uplink), open_source(source)
    payloads: dict[int, Payload] = {}
    number = 0
    try:
        while len(payloads) < len(wanted):
            try:
                picture = pictures.read()
            except UnreadablePictureError:
                continue
            if picture is None:
                raise SourceError(f"{source} has fewer pictures than when it was recorded")
            if number in wanted:
                frame = Frame(picture.image, str(number), number, "camera", 0.0, 0.0)
                decision = wanted[number]
                payloads[number] = _payload(payload_encoder.pack(frame, decision.payload).payload)
            number += 1
    finally:
        pictures.close()
    return payloads


def _payload(made: EdgePayload) -> Payload:
    if isinstance(made, EncodedTensor):
        raise SourceError("simulated edges speak spillover's own protocol; the recorded run sent tensors")
    return Payload(bytes(made.data), made.head_sha256 if isinstance(made, EncodedFeatures) else "")


def _payload_encoder(uplink: UplinkConfig) -> PayloadEncoder:
    """Makes payloads as the recorded edge did."""
    split = uplink.split if uplink.payload.has_features else None
    folder = find_model_folder(split.folder) if split else Path()
    heads = {cut: FeatureEncoder(folder, cut, split.session) for cut in split.cuts} if split else {}
    return PayloadEncoder(uplink, "loadtest", heads)


def uplink_of(edge_yaml: Path) -> UplinkConfig:
    """The uplink that a recorded edge had. Raises ConfigError."""
    from spillover.common.config import load_config
    from spillover.edge.config import EdgeConfig

    return load_config(edge_yaml, EdgeConfig).uplink
