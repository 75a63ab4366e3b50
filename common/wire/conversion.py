"""Converts between protobuf and `common.types`; the only hand-written file that reads both."""

from dataclasses import dataclass

from spillover.common.coding import StreamPosition
from spillover.common.errors import InvalidInputError, UnsupportedError
from spillover.common.tasks import TASKS, Tasks, spec_for
from spillover.common.types import ModelId, Prediction
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.tensors import MAX_NAME

DEVICE_KEY = "spillover-device"
"""Metadata in which a device names itself; who proves an identity can name no other."""


MAX_PACKETS = 256
"""Packets of one payload; more would be a key."""


@dataclass(frozen=True, slots=True)
class Features:
    """Coded features of one frame, and the hex SHA-256 of the head that made them.

    `position` is None for features that neither have a reference nor become one.
    """

    head_sha256: str
    data: bytes
    position: StreamPosition | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """The newest picture of a stream of H.264, and the packets before it that the server may lack.

    The last of `packets` has the position's number, each one before it one less.
    """

    position: StreamPosition
    packets: tuple[bytes, ...]
    width: int
    height: int

    @property
    def first(self) -> int:
        """Number of the first packet."""
        return self.position.number - len(self.packets) + 1


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One frame as the server receives it. Empty strings mean "not given"; `time_left_s` None is "no limit".

    The payload is a JPEG, or features or video if those are not None.
    """

    jpeg: bytes = b""
    features: Features | None = None
    video: Video | None = None
    frame_id: str = ""
    device_id: str = ""
    camera_id: str = ""
    boot_id: str = ""
    sequence: int = 0
    model_name: str = ""
    model_version: str = ""
    time_left_s: float | None = None
    captured_unix_s: float = 0.0
    max_classes: int = 0


@dataclass(frozen=True, slots=True)
class ServerTimings:
    """Seconds that the server spent on one request; see `ServerTimings` in spillover.proto."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class InferenceReply:
    """One answer as the edge receives it; boxes in pixels of the sent picture."""

    frame_id: str
    model: ModelId
    prediction: Prediction
    timings: ServerTimings


def request_to_pb(request: InferenceRequest) -> pb.InferRequest:
    """Encode a request as a protobuf message."""
    time_left_s = request.time_left_s
    message = pb.InferRequest(
        frame_id=request.frame_id,
        device_id=request.device_id,
        camera_id=request.camera_id,
        boot_id=request.boot_id,
        sequence=request.sequence,
        model=pb.ModelRef(name=request.model_name, version=request.model_version),
        # 0 means "no limit" on the wire, so a deadline that has just passed is sent as one microsecond.
        time_left_us=0 if time_left_s is None else max(1, round(time_left_s * 1e6)),
        captured_unix_us=round(request.captured_unix_s * 1e6),
        max_classes=request.max_classes,
    )
    if request.video is not None:
        _write_video(message.video, request.video)
    elif request.features is not None:
        message.features.head_sha256 = bytes.fromhex(request.features.head_sha256)
        message.features.data = request.features.data
        if request.features.position is not None:
            _write_position(message.features.position, request.features.position)
    else:
        message.image.format = pb.EncodedImage.FORMAT_JPEG
        message.image.data = request.jpeg
    return message


def _write_video(message: pb.Video, video: Video) -> None:
    message.codec = pb.Video.CODEC_H264
    message.packets.extend(video.packets)
    message.width, message.height = video.width, video.height
    _write_position(message.position, video.position)


def _write_position(message: pb.StreamPosition, position: StreamPosition) -> None:
    message.stream_id = position.stream_id
    message.number, message.reference = position.number, position.reference
    message.digest = position.digest


def request_from_pb(message: pb.InferRequest) -> InferenceRequest:
    """Decode a request.

    Raises:
        InvalidInputError: no payload, or of a kind or format that this version does not know.
    """
    _check_names(message)
    jpeg, features, video = _payload_from_pb(message)
    return InferenceRequest(
        jpeg=jpeg,
        features=features,
        video=video,
        frame_id=message.frame_id,
        device_id=message.device_id,
        camera_id=message.camera_id,
        boot_id=message.boot_id,
        sequence=message.sequence,
        model_name=message.model.name,
        model_version=message.model.version,
        time_left_s=message.time_left_us / 1e6 if message.time_left_us else None,
        captured_unix_s=message.captured_unix_us / 1e6,
        max_classes=message.max_classes,
    )


def _check_names(message: pb.InferRequest) -> None:
    """Raises InvalidInputError for a long name: names are stored (fair shares, rates, repeated requests)."""
    names = (message.frame_id, message.device_id, message.camera_id, message.boot_id)
    if (longest := max(map(len, (*names, message.model.name, message.model.version)))) > MAX_NAME:
        raise InvalidInputError(f"a name has {longest} characters; the limit is {MAX_NAME}")


def _payload_from_pb(message: pb.InferRequest) -> tuple[bytes, Features | None, Video | None]:
    match message.WhichOneof("payload"):
        case "image":
            if message.image.format != pb.EncodedImage.FORMAT_JPEG:
                raise InvalidInputError(
                    f"image.format is {message.image.format}; this server knows FORMAT_JPEG (1)"
                )
            return message.image.data, None, None
        case "features":
            return b"", _features_from_pb(message.features), None
        case "video":
            return b"", None, _video_from_pb(message.video)
        case _:
            raise InvalidInputError(
                "request carries no payload that this server knows; it knows `image`, `features` and `video`"
            )


def _features_from_pb(message: pb.Features) -> Features:
    if len(message.head_sha256) != 32:
        raise InvalidInputError("features.head_sha256 is not the 32 bytes of a SHA-256")
    position = _position_from_pb(message.position) if message.HasField("position") else None
    return Features(message.head_sha256.hex(), message.data, position)


def _video_from_pb(message: pb.Video) -> Video:
    if message.codec != pb.Video.CODEC_H264:
        raise InvalidInputError(f"video.codec is {message.codec}; this server knows CODEC_H264 (1)")
    if not 1 <= len(message.packets) <= MAX_PACKETS:
        raise InvalidInputError(f"video.packets: {len(message.packets)} of them; 1..{MAX_PACKETS} are read")
    width, height = message.width, message.height
    if not width or not height or width % 2 or height % 2:
        raise InvalidInputError(f"video of {width} x {height} pixels; both must be even and above 0")
    video = Video(_position_from_pb(message.position), tuple(message.packets), width, height)
    position = video.position
    if video.first < 1 or (position.reference and video.first != position.reference + 1):
        raise InvalidInputError(
            f"video.packets: {len(video.packets)} of them do not lead from number {position.reference} "
            f"to {position.number}"
        )
    return video


def _position_from_pb(message: pb.StreamPosition) -> StreamPosition:
    return StreamPosition(message.stream_id, message.number, message.reference, message.digest)


def reply_to_pb(reply: InferenceReply, max_classes: int = 0, tasks: Tasks = TASKS) -> pb.InferReply:
    """Encode a reply; a classification is cut to the best `max_classes` (0: all).

    Raises:
        UnsupportedError: the protocol has no field for predictions of this task.
    """
    message = pb.InferReply(
        frame_id=reply.frame_id,
        model=pb.ModelRef(name=reply.model.name, version=reply.model.version),
        timings=pb.ServerTimings(
            decode_us=_microseconds(reply.timings.decode_s),
            queue_us=_microseconds(reply.timings.queue_s),
            infer_us=_microseconds(reply.timings.infer_s),
            total_us=_microseconds(reply.timings.total_s),
        ),
    )
    _write_prediction(message, reply.prediction.best(max_classes), tasks)
    return message


def _write_prediction(message: pb.InferReply, prediction: Prediction, tasks: Tasks) -> None:
    task = spec_for(prediction, tasks)
    if not task.wire_field:
        raise UnsupportedError(f"the protocol has no field for {task.name}; ask for the network's tensors")
    field = getattr(message, task.wire_field)
    field.SetInParent()  # so that an answer without boxes differs from no answer
    for name, column in task.columns_of(prediction).items():
        getattr(field, name).extend(column.ravel().tolist())


def reply_from_pb(message: pb.InferReply, tasks: Tasks = TASKS) -> InferenceReply:
    """Decode a reply. A server may be faulty or foreign, so every field is checked.

    Raises:
        InvalidInputError: no prediction, no model, lists of different lengths, or numbers that are not
            finite.
    """
    if not message.model.name:
        raise InvalidInputError("reply names no model")
    return InferenceReply(
        frame_id=message.frame_id,
        model=ModelId(message.model.name, message.model.version),
        prediction=_prediction_from_pb(message, tasks),
        timings=ServerTimings(
            decode_s=message.timings.decode_us / 1e6,
            queue_s=message.timings.queue_us / 1e6,
            infer_s=message.timings.infer_us / 1e6,
            total_s=message.timings.total_us / 1e6,
        ),
    )


def _prediction_from_pb(message: pb.InferReply, tasks: Tasks) -> Prediction:
    field = message.WhichOneof("prediction")
    for task in tasks.values():
        if field and task.wire_field == field:
            columns = getattr(message, field)
            prediction: Prediction = task.from_columns(
                {name: getattr(columns, name) for name in task.columns}
            )
            return prediction
    raise InvalidInputError("reply carries no prediction")


def _microseconds(seconds: float) -> int:
    return min(max(round(seconds * 1e6), 0), 2**32 - 1)
