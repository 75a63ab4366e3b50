"""Converts between protobuf and `common.types`; the only hand-written file that reads both."""

from dataclasses import dataclass

from spillover.common.errors import InvalidInputError, UnsupportedError
from spillover.common.tasks import TASKS, Tasks, spec_for
from spillover.common.types import ModelId, Prediction
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.tensors import MAX_NAME

DEVICE_KEY = "spillover-device"
"""Metadata in which a device names itself; who proves an identity can name no other."""


@dataclass(frozen=True, slots=True)
class Features:
    """Coded features of one frame, and the hex SHA-256 of the head that made them."""

    head_sha256: str
    data: bytes


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One frame as the server receives it. Empty strings mean "not given"; `time_left_s` None is "no limit".

    The payload is a JPEG, or features if those are not None.
    """

    jpeg: bytes = b""
    features: Features | None = None
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
    if request.features is None:
        message.image.format = pb.EncodedImage.FORMAT_JPEG
        message.image.data = request.jpeg
    else:
        message.features.head_sha256 = bytes.fromhex(request.features.head_sha256)
        message.features.data = request.features.data
    return message


def request_from_pb(message: pb.InferRequest) -> InferenceRequest:
    """Decode a request.

    Raises:
        InvalidInputError: no payload, or of a kind or format that this version does not know.
    """
    _check_names(message)
    jpeg, features = _payload_from_pb(message)
    return InferenceRequest(
        jpeg=jpeg,
        features=features,
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


def _payload_from_pb(message: pb.InferRequest) -> tuple[bytes, Features | None]:
    match message.WhichOneof("payload"):
        case "image":
            if message.image.format != pb.EncodedImage.FORMAT_JPEG:
                raise InvalidInputError(
                    f"image.format is {message.image.format}; this server knows FORMAT_JPEG (1)"
                )
            return message.image.data, None
        case "features":
            if len(message.features.head_sha256) != 32:
                raise InvalidInputError("features.head_sha256 is not the 32 bytes of a SHA-256")
            return b"", Features(message.features.head_sha256.hex(), message.features.data)
        case _:
            raise InvalidInputError(
                "request carries no payload that this server knows; it knows `image` and `features`"
            )


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
