"""What is spooled for a frame: what leaves the device, and what its late result needs besides."""

from typing import Any

import msgspec
import numpy as np

from spillover.common.errors import InvalidInputError
from spillover.common.images import EncodedImage
from spillover.common.model.preprocess import Geometry
from spillover.common.types import AnsweredBy, Decision, Detections, Result, Timings
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, EncodedTensor, Payload
from spillover.edge.uplink.outcome import CloudAnswer

_FORMAT = 2
_Row = tuple[float, float, float, float, float, int]


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """The body of a record, as msgpack; fields are only ever added at the end."""

    format: int
    frame_id: str
    camera_id: str
    boot_id: str
    sequence: int
    captured_unix_s: float
    source: str
    frame_width: int
    frame_height: int
    jpeg: bytes
    width: int
    height: int
    scale_x: float
    offset_x: int
    offset_y: int
    decision: Decision
    head_sha256: str = ""
    """Of features; then `jpeg` holds their bytes, and `geometry` what leads back to the frame."""
    geometry: tuple[float, float, float, float] = (1.0, 1.0, 0.0, 0.0)
    option: str = ""
    scale_y: float = 0.0
    """Of pictures; 0 in records of a version that had one scale for both axes."""
    rest: tuple[_Row, ...] | None = None
    """Of a crop: `EncodedFrame.rest`, for each box xyxy, confidence and class."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def to_body(encoded_frame: EncodedFrame, local: Result) -> bytes:
    """The bytes to spool. Raises InvalidInputError for a tensor, which waits as a picture."""
    return _encoder.encode(
        _Body(
            **_payload_fields(encoded_frame),
            format=_FORMAT,
            frame_id=encoded_frame.frame_id,
            camera_id=encoded_frame.camera_id,
            boot_id=encoded_frame.boot_id,
            sequence=encoded_frame.sequence,
            captured_unix_s=encoded_frame.captured_unix_s,
            source=local.source,
            frame_width=encoded_frame.frame_width,
            frame_height=encoded_frame.frame_height,
            decision=local.decision,
            rest=_rows(encoded_frame.rest) if encoded_frame.rest is not None else None,
        )
    )


def _rows(boxes: Detections) -> tuple[_Row, ...]:
    columns = boxes.confidence.tolist(), boxes.class_id.tolist()
    return tuple((*xyxy, *rest) for xyxy, *rest in zip(boxes.xyxy.tolist(), *columns, strict=True))


def _boxes(rows: tuple[_Row, ...]) -> Detections:
    numbers = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        numbers[:, :4].astype(np.float32), numbers[:, 4].astype(np.float32), numbers[:, 5].astype(np.int32)
    )


def _payload_fields(encoded_frame: EncodedFrame) -> dict[str, Any]:
    match encoded_frame.payload:
        case EncodedImage() as picture:
            return {
                "jpeg": picture.data,
                "width": picture.width,
                "height": picture.height,
                "scale_x": picture.scale_x,
                "scale_y": picture.scale_y,
                "offset_x": picture.offset_x,
                "offset_y": picture.offset_y,
                "option": encoded_frame.option,
            }
        case EncodedFeatures(data, head_sha256, at):
            plain = {"width": 0, "height": 0, "scale_x": 1.0, "offset_x": 0, "offset_y": 0}
            geometry = (at.scale_x, at.scale_y, at.offset_x, at.offset_y)
            return plain | {
                "jpeg": data,
                "head_sha256": head_sha256,
                "geometry": geometry,
                "option": encoded_frame.option,
            }
        case EncodedTensor():
            raise InvalidInputError("a tensor waits as a picture: spillover.edge.payload.encoder.as_it_waits")


class SpooledFrame:
    """A frame read back from the spool.

    Raises:
        InvalidInputError: the bytes are not those of a frame, or of a later format.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self._body = _decoder.decode(body)
        except msgspec.DecodeError as error:
            raise InvalidInputError(f"not a spooled frame: {error}") from error
        if self._body.format > _FORMAT:
            raise InvalidInputError(f"spooled by a later version: format {self._body.format}")

    @property
    def encoded_frame(self) -> EncodedFrame:
        """What leaves the device."""
        body = self._body
        return EncodedFrame(
            frame_id=body.frame_id,
            camera_id=body.camera_id,
            boot_id=body.boot_id,
            sequence=body.sequence,
            captured_unix_s=body.captured_unix_s,
            frame_width=body.frame_width,
            frame_height=body.frame_height,
            payload=self._payload(),
            option=body.option,
            rest=_boxes(body.rest) if body.rest is not None else None,
        )

    def _payload(self) -> Payload:
        body = self._body
        if not body.head_sha256:
            scales = (body.scale_x, body.scale_y or body.scale_x)
            return EncodedImage(body.jpeg, body.width, body.height, *scales, body.offset_x, body.offset_y)
        geometry = Geometry(*body.geometry, body.frame_width, body.frame_height)
        return EncodedFeatures(body.jpeg, body.head_sha256, geometry)

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
