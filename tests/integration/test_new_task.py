"""What a new task takes: this file holds one, "keypoints", whole; `TABLE` is its one line.

It is decoded from a network, decided on, redacted, drawn, recorded, compared, and answered by a real server
with tensors: spillover.proto has no field for it. What needs more than the task itself (a second look,
temporal correction) refuses it by name.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.common.errors import ConfigError, ModelError, UnsupportedError
from spillover.common.geometry import FrameTransform
from spillover.common.model.manifest import (
    MODEL_FILE,
    Input,
    Manifest,
    Output,
    Resize,
    file_sha256,
    open_model_folder,
    write_manifest,
)
from spillover.common.model.session import Model
from spillover.common.tasks import TASKS, agreement, spec_for, table_of
from spillover.common.tasks.base import Column, DecodeSettings, Head, TaskSpec
from spillover.common.tasks.drawing import Pen
from spillover.common.types import Action, Detections, FloatArray, IntArray, ModelId, Prediction
from spillover.common.wire.conversion import InferenceReply, ServerTimings, reply_to_pb
from spillover.common.wire.oip import reply_from_pb, request_to_pb
from spillover.common.wire.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from spillover.common.wire.tensors import TensorRequest
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.config import (
    CameraConfig,
    EdgeConfig,
    ModelConfig,
    MultiViewConfig,
    RedactionConfig,
    RedactionStyle,
    TemporalConfig,
    TrackingConfig,
    UplinkConfig,
)
from spillover.edge.inference.multi_view import build_multi_view
from spillover.edge.link.state import LinkState
from spillover.edge.payload.redaction import build_redaction
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.policy.base import Context
from spillover.edge.sinks.record import record_encoder
from spillover.edge.tracking.stage import NoCorrection
from tests.support.edge_values import frame, result
from tests.support.models import SIDE, save_network
from tests.support.policies import decide, policy_of
from tests.support.serving import CALL_S, cloud_config, serving

# ---- the task: one file ----


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints(Prediction):
    """Points by descending confidence: `xy` float32 (N, 2), `confidence` float32 (N,), `class_id` int32."""

    xy: FloatArray
    confidence: FloatArray
    class_id: IntArray

    @property
    def top_confidence(self) -> float:
        """The surest point's."""
        return float(self.confidence[0]) if len(self.confidence) else 0.0

    @property
    def boxes(self) -> Detections:
        """Each point with eight pixels around it."""
        return Detections(np.hstack([self.xy - 8, self.xy + 8]), self.confidence, self.class_id)

    def above(self, confidence: float) -> "Keypoints":
        """The points of at least this confidence."""
        sure = self.confidence >= confidence
        return Keypoints(self.xy[sure], self.confidence[sure], self.class_id[sure])

    def in_frame(self, transform: FrameTransform) -> "Keypoints":
        """In pixels of the frame."""
        return replace(self, xy=transform.to_frame(np.hstack([self.xy, self.xy]))[:, :2])


def decode_points(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Keypoints:
    """Rows of x, y, score, one for each class."""
    rows = outputs[0]
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ModelError(f"model {settings.model}: output {rows.shape} holds no points")
    order = np.argsort(-rows[:, 2], kind="stable").astype(np.int32)
    points = Keypoints(rows[order, :2], rows[order, 2], order)
    return points.above(settings.threshold).in_frame(transform)


def same_places(prediction: Keypoints, reference: Keypoints, confidence: float) -> float:
    """Share of the classes that either side sees which both see within ten pixels."""
    sides = prediction.above(confidence), reference.above(confidence)
    a, b = (dict(zip(side.class_id.tolist(), side.xy, strict=True)) for side in sides)
    near = sum(np.linalg.norm(a[c] - b[c]) <= 10 for c in a.keys() & b.keys())
    return float(near / len(a | b)) if a or b else 1.0


KEYPOINTS = TaskSpec(
    name="keypoints",
    prediction=Keypoints,
    heads=MappingProxyType({"points": Head(decode_points, class_axis=0, axes=2)}),
    columns=MappingProxyType(
        {
            "xy": Column(np.float32, width=2, decimals=2),
            "confidence": Column(np.float32, decimals=6),
            "class_id": Column(np.int32),
        }
    ),
    agreement=same_places,
    record_key="points",
)

# ---- and one line ----

TABLE = table_of(*TASKS.values(), KEYPOINTS)

# ---- everything below is the test ----

LABELS = ("red", "green", "blue")
PLACES = np.array([[4, 4], [8, 8], [12, 4]], np.float32)
"""Of the classes, in pixels of the network's input."""


def point_network(folder: Path) -> Path:
    """Three points at fixed places, each as sure as one channel of the picture is bright."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Reshape", ["mean", "shape"], ["score"]),
            helper.make_node("Concat", ["places", "score"], ["points"], axis=2),
        ],
        "points",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, 3, 3])],
        [
            numpy_helper.from_array(np.array([1, 3, 1], np.int64), "shape"),
            numpy_helper.from_array(PLACES[None], "places"),
        ],
    )
    return save_network(graph, folder)


def describe(folder: Path, network: Path, decoder: str = "points") -> Path:
    """A model.yaml in `folder` of the network in the folder `network`."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = Input(height=SIDE, width=SIDE, std=(255.0,) * 3, resize=Resize.STRETCH)
    sha256 = file_sha256(network / MODEL_FILE)
    manifest = Manifest(
        name="points",
        version="1",
        task="keypoints",
        input=spec,
        output=Output(decoder=decoder),
        sha256=sha256,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A model folder of the new task."""
    folder = point_network(tmp_path / "points" / "1")
    return describe(folder, folder)


@pytest.fixture
def model(network: Path) -> Model:
    """The same, loaded."""
    return Model(open_model_folder(network, TABLE))


def picture(bgr: tuple[int, int, int] = (51, 153, 255)) -> np.ndarray:
    """A picture of one colour, four times as large as the network's input and twice as wide as high."""
    return np.full((4 * SIDE, 8 * SIDE, 3), bgr, np.uint8)


def test_a_network_of_the_task_is_decoded_into_frame_pixels(model: Model) -> None:
    """Places are those of the frame, the surest first; what the threshold rules out is not there."""
    points = model.predict(picture())[0]
    assert isinstance(points, Keypoints)
    assert points.class_id.tolist() == [0, 1]  # RGB: red is the first channel; blue, .2, is below .25
    np.testing.assert_allclose(points.confidence, [1.0, 0.6], atol=1e-6)
    np.testing.assert_allclose(points.xy, PLACES[[0, 1]] * [8, 4])
    assert model.class_count == 3


def test_nothing_but_the_table_knows_the_task(network: Path, tmp_path: Path) -> None:
    """Without its line the model is refused, naming the tasks that there are; so is another task's head."""
    with pytest.raises(ModelError, match=r"task: there is no task 'keypoints'; known are classification"):
        open_model_folder(network)
    with pytest.raises(ModelError, match="'yolov8' is for detection, but task is keypoints"):
        Model(open_model_folder(describe(network, network, decoder="yolov8"), TABLE))
    with pytest.raises(TypeError, match="Keypoints"):
        spec_for(Keypoints(PLACES, np.ones(3, np.float32), np.arange(3, dtype=np.int32)))


@pytest.fixture
def remote(network: Path, tmp_path: Path) -> Iterator[tuple[GRPCInferenceServiceStub, TensorEncoder]]:
    """A server that has the bare network, and what prepares frames for it as the edge does."""
    served = tmp_path / "served" / "points" / "1"
    served.mkdir(parents=True)
    (served / MODEL_FILE).write_bytes((network / MODEL_FILE).read_bytes())
    oip = {"manifest": str(network / "model.yaml"), "input": "image", "outputs": ["points"]}
    config = msgspec.convert({"protocol": "oip", "oip": oip}, UplinkConfig)
    assert config.oip is not None
    with (
        serving(cloud_config(tmp_path / "served")) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield GRPCInferenceServiceStub(channel), TensorEncoder(config, config.oip, KEYPOINTS)


def test_a_server_answers_with_tensors_that_the_task_decodes(
    remote: tuple[GRPCInferenceServiceStub, TensorEncoder], model: Model
) -> None:
    """Over gRPC as tensors the answer is the local one; our own protocol says that it has no field for it."""
    stub, encoder = remote
    sent = encoder.encode(picture())
    request = TensorRequest(
        model_name="points",
        model_version="",
        request_id="f",
        inputs={"image": sent.tensor},
        outputs=("points",),
    )
    outputs = reply_from_pb(stub.ModelInfer(request_to_pb(request), timeout=CALL_S)).outputs
    answer, local = encoder.decoder([outputs["points"][0]], sent.transform), model.predict(picture())[0]
    assert agreement(answer, local, tasks=TABLE) == 1.0
    for name, column in KEYPOINTS.columns_of(KEYPOINTS.own(local)).items():
        np.testing.assert_allclose(getattr(answer, name), column, rtol=1e-5)
    reply = InferenceReply("f", ModelId("points", "1"), answer, ServerTimings())
    with pytest.raises(UnsupportedError, match="no field for keypoints"):
        reply_to_pb(reply, tasks=TABLE)


def test_a_result_is_recorded_under_the_tasks_own_key(model: Model) -> None:
    """Rows with labels; the other tasks' keys are null; the rows make the same prediction again."""
    points = model.predict(picture())[0]
    line = json.loads(record_encoder(LABELS, TABLE)(replace(result(), prediction=points)))
    assert line["points"][0] == {"xy": [32.0, 16.0], "confidence": 1.0, "class_id": 0, "label": "red"}
    assert (line["classes"], line["boxes"]) == (None, None)
    back = KEYPOINTS.from_rows(line["points"])
    assert KEYPOINTS.agreement(back, KEYPOINTS.own(points), 0.0) == 1.0
    none = Keypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    assert json.loads(record_encoder(LABELS, TABLE)(replace(result(), prediction=none)))["points"] == []


def test_two_answers_are_compared(model: Model) -> None:
    """By the task's own measure, from a confidence up; never with another task's answer."""
    points, other = (model.predict(picture(bgr))[0] for bgr in ((51, 153, 255), (255, 153, 255)))
    assert agreement(points, other, tasks=TABLE) == pytest.approx(2 / 3)
    assert agreement(points, other, confidence=0.7, tasks=TABLE) == pytest.approx(1 / 2)
    with pytest.raises(TypeError, match="keypoints"):
        agreement(points, points.boxes, tasks=TABLE)  # type: ignore[arg-type]


@pytest.mark.parametrize(("bgr", "action"), [((0, 0, 255), Action.KEEP), ((0, 0, 90), Action.SEND_FRAME)])
def test_the_policy_sends_what_the_edge_is_unsure_of(
    model: Model, bgr: tuple[int, int, int], action: Action
) -> None:
    """A task without a score of its own is judged by the confidence of its surest part."""
    prediction, context = model.predict(picture(bgr))[0], Context(0.4, LinkState(max_in_flight=4))
    assert decide(policy_of(task=KEYPOINTS, audit_share=0), prediction, context).action is action


def test_only_what_is_reported_is_shown(model: Model) -> None:
    """The report threshold leaves out points, as it does boxes."""
    points = model.predict(picture())[0]
    assert KEYPOINTS.own(points.above(0.8)).class_id.tolist() == [0]


def test_its_places_are_hidden_and_drawn(model: Model) -> None:
    """Redaction covers what is around the points, drawing marks it; neither knows the task."""
    whole = replace(frame(), image=picture())
    points = model.predict(whole.image)[0]
    redaction = RedactionConfig(classes=("red",), style=RedactionStyle.FILL, margin=0.0)
    hidden = build_redaction(redaction, LABELS, KEYPOINTS)
    left = hidden(whole, points, points).image
    assert not left[8:24, 24:40].any()
    assert left[28:36, 60:68].all()
    drawn = whole.image.copy()
    KEYPOINTS.draw(drawn, KEYPOINTS.own(points), LABELS.__getitem__, Pen((0, 0, 0), 0.4))
    assert (drawn != whole.image).any()


def _with(**sections: Any) -> EdgeConfig:
    """A configuration with these sections."""
    return EdgeConfig(model=ModelConfig("m"), camera=CameraConfig("v"), **sections)


def test_what_a_task_lacks_is_refused_by_name(model: Model) -> None:
    """A second look and temporal correction are for tasks that have them: the error says so."""
    with pytest.raises(ConfigError, match="not for keypoints"):
        build_multi_view(MultiViewConfig(), model, KEYPOINTS)
    with pytest.raises(ConfigError, match="not for keypoints"):
        build_temporal(_with(temporal=TemporalConfig()), KEYPOINTS)
    with pytest.raises(ConfigError, match="tracking: is for detection, not for keypoints"):
        build_temporal(_with(tracking=TrackingConfig(memory_mb=1.0)), KEYPOINTS)
    assert isinstance(build_temporal(_with(), KEYPOINTS), NoCorrection)
    assert KEYPOINTS.locates
