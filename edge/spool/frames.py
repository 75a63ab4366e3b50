"""Encodes a spooled frame: its payload, and the rest that its late result needs."""

from typing import Any

import msgspec

from spillover.common.errors import InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import AnsweredBy, Decision, Detections, Result, Timings
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, Payload, alone_of
from spillover.edge.uplink.outcome import CloudAnswer

_FORMAT = 3


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """The body of a record, as msgpack; fields are only ever added at the end."""

    format: int
    frame_id: str
    camera_id: str
    boot_id: str
    sequence: int
    captured_unix_s: float
    source: str
    data: bytes
    head_sha256: str
    """Of the head whose features `data` holds; empty where it is a JPEG."""
    transform: FrameTransform
    option: str
    decision: Decision
    hidden: dict[str, list[Any]] | None = None
    """`EncodedFrame.hidden`, each array by its name."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def to_body(encoded_frame: EncodedFrame, local: Result) -> bytes:
    """The bytes to spool. Raises InvalidInputError for what cannot wait as it is, such as a tensor."""
    payload = encoded_frame.payload
    if not isinstance(payload, EncodedImage | EncodedFeatures) or alone_of(payload):
        raise InvalidInputError("it waits as spillover.edge.payload.encoder.as_it_waits makes it")
    return _encoder.encode(
        _Body(
            format=_FORMAT,
            frame_id=encoded_frame.frame_id,
            camera_id=encoded_frame.camera_id,
            boot_id=encoded_frame.boot_id,
            sequence=encoded_frame.sequence,
            captured_unix_s=encoded_frame.captured_unix_s,
            source=local.source,
            data=payload.data,
            head_sha256=payload.head_sha256 if isinstance(payload, EncodedFeatures) else "",
            transform=payload.transform,
            option=encoded_frame.option,
            decision=local.decision,
            hidden=_lists(encoded_frame.hidden),
        )
    )


def _lists(boxes: Detections | None) -> dict[str, list[Any]] | None:
    if boxes is None:
        return None
    return {name: column.ravel().tolist() for name, column in DETECTION.columns_of(boxes).items()}


class SpooledFrame:
    """A frame read back from the spool.

    Raises:
        InvalidInputError: the bytes are not those of a frame, or of another format.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self._body = _decoder.decode(body)
            self.encoded_frame = self._encoded_frame()
            """The spooled frame as the uplink delivers it."""
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:  # ValueError: text or boxes
            raise InvalidInputError(f"not a spooled frame: {error!r}") from error
        if self._body.format != _FORMAT:
            raise InvalidInputError(f"spooled by another version: format {self._body.format}")

    def _encoded_frame(self) -> EncodedFrame:
        body = self._body
        return EncodedFrame(
            frame_id=body.frame_id,
            camera_id=body.camera_id,
            boot_id=body.boot_id,
            sequence=body.sequence,
            captured_unix_s=body.captured_unix_s,
            payload=self._payload(),
            option=body.option,
            hidden=DETECTION.from_columns(body.hidden) if body.hidden is not None else None,
        )

    def _payload(self) -> Payload:
        body = self._body
        if body.head_sha256:
            return EncodedFeatures(body.data, body.head_sha256, body.transform)
        return EncodedImage(body.data, body.transform)

    def late_result(self, answer: CloudAnswer, age_s: float) -> Result:
        """The revision that the cloud's answer makes, `age_s` seconds after the frame was spooled."""
        body = self._body
        return Result(
            frame_id=body.frame_id,
            camera_id=body.camera_id,
            sequence=body.sequence,
            captured_unix_s=body.captured_unix_s,
            source=body.source,
            answered_by=AnsweredBy.CLOUD,
            prediction=answer.prediction,
            model=answer.model,
            decision=body.decision,
            timings=Timings(
                network_s=answer.network_s,
                server_queue_s=answer.server_queue_s,
                server_decode_s=answer.server_decode_s,
                server_infer_s=answer.server_infer_s,
                total_s=age_s,
            ),
            payload_bytes=answer.sent_bytes,
            revision=1,
        )
