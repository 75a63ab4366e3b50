"""What meets the operator: reloads, stops and models that never load, while callers go on."""

import os
import signal
import subprocess
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attack.attempts.bodies import PART
from tests.attack.messages import CHECK, INFER, LOAD, frame, load
from tests.attack.suite import Scene, attempt
from tests.attack.world import OPERATOR, STOP_S, Kind, Mode
from tests.support.models import colour_classifier
from tests.support.slow_jpeg import slow_jpeg

EXITED_WELL = {0, 7}
"""Stopped; stopped, and left behind what hung."""
_STOP_MARGIN_S = 3.0


@attempt(Kind(own_models=True), "OK", short=False)
def reload_without_repository(scene: Scene) -> None:
    """SIGHUP while the models' folder is gone: nothing is unloaded."""
    models = scene.server.models
    hidden = models.rename(models.with_name("hidden"))
    scene.server.process.send_signal(signal.SIGHUP)
    scene.hold(2)
    scene.saw(scene.call(CHECK, b""))
    hidden.rename(models)
    log = scene.server.log.read_text(encoding="utf-8")
    scene.require("not reloaded" in log, "the log does not say that nothing was reloaded")


@attempt(Kind(own_models=True), "OK", short=False)
def broken_reloads(scene: Scene) -> None:
    """SIGHUP with broken YAML, an unknown key, no file, and twenty times at once."""
    config = scene.server.models.parent / "cloud.yaml"
    good = config.read_bytes()
    for text in (b"a: [", b"limits: {nonsense: 1}\n", b"\xff\xfe", b"a: &a [*a]\n"):
        config.write_bytes(text)
        scene.server.process.send_signal(signal.SIGHUP)
        scene.hold(0.3)
    config.unlink()
    scene.server.process.send_signal(signal.SIGHUP)
    scene.hold(0.3)
    config.write_bytes(good)
    for _ in range(20):
        scene.server.process.send_signal(signal.SIGHUP)
    scene.hold(1)
    scene.saw(scene.call(CHECK, b""))


@attempt(
    Kind(Mode.TOKEN, own_models=True),
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "DEADLINE_EXCEEDED",
    short=False,
)
def models_that_never_load(scene: Scene) -> None:
    """A FIFO, a loop of 2 ^ 62 rounds, 10 ^ 10 laughs: refused in bounded time, and good models load."""
    models = scene.server.models
    (models / "fifo" / "1").mkdir(parents=True)
    os.mkfifo(models / "fifo" / "1" / "model.onnx")
    (models / "loop" / "1").mkdir(parents=True)
    onnx.save(endless_network(), models / "loop" / "1" / "model.onnx")
    laughing = colour_classifier(models, name="laughs")
    (laughing / "model.yaml").write_text(laughs(10), encoding="utf-8")
    for name in ("fifo", "loop", "laughs"):
        scene.saw(scene.call(LOAD, load(name), who=OPERATOR, limit_s=90), what=name)
    colour_classifier(models, name="good")
    scene.saw(scene.call(LOAD, load("good"), who=OPERATOR, limit_s=60), {"OK"}, "a good model afterwards")


@attempt(Kind(few_models=True, fresh=True), "ended in time", ends=True, short=False)
def stop_while_attacked(scene: Scene) -> None:
    """SIGTERM while bodies are withheld, a bomb is decoded, and nobody reads: it ends within its limit."""
    connection = scene.connect(window=0, reads=False)
    for _ in range(20):
        scene.withhold(connection, INFER, len(PART) + 1, PART)
    bomber = scene.connect()
    for _ in range(4):
        bomber.call(INFER, frame(slow_jpeg(8_000)))
    scene.hold(2)
    process = scene.server.process
    process.send_signal(signal.SIGTERM)
    end_s = time.monotonic() + STOP_S + _STOP_MARGIN_S
    scene.pump(lambda: process.poll() is not None, max(0.0, end_s - time.monotonic()))
    try:
        code = process.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        scene.saw("still there")
    else:
        scene.saw("ended in time" if code in EXITED_WELL else f"exit code {code}")


def endless_network() -> onnx.ModelProto:
    """A network whose every run, and its folding of constants, is a loop of 2 ^ 62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["count", "one"], ["next"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["rounds", "", "zero"], ["counted"], body=body),
            helper.make_node("Add", ["INPUT0", "counted"], ["OUTPUT0"]),
        ],
        "endless",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array(np.array(2**62, np.int64), "rounds"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def laughs(depth: int) -> str:
    """YAML whose aliases stand for 10 ^ depth entries."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth + 1)]
    return "\n".join(['a0: &a0 ["ha"]', *levels, ""])
