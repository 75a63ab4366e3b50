"""MLServer with a runtime that runs ONNX, as its documentation tells to write one."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.cloud.contenders import Contender, free_port, served
from benchmarks.cloud.engine import Engine
from benchmarks.cloud.environments import environment
from benchmarks.cloud.networks import NETWORKS, NetworkSpec
from spillover.common.model.manifest import MODEL_FILE

_RUNTIME = """import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxRuntime(MLModel):
    async def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = {threads}
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        ort.preload_dlls()
        path = self.settings.parameters.uri
        self.session = ort.InferenceSession(path, options, providers={providers!r})
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        (output,) = self.session.run(["OUTPUT0"], {{"INPUT0": x}})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("OUTPUT0", output)]
        )
"""


def requirements(engine: Engine) -> tuple[str, ...]:
    """What MLServer's environment holds."""
    return ("mlserver==1.7.1", engine.requirement)


@contextlib.contextmanager
def mlserver(
    repository: Path, work: Path, engine: Engine, specs: Iterable[NetworkSpec] = tuple(NETWORKS.values())
) -> Iterator[Contender]:
    """A running MLServer, inference in its own process. Raises NotHereError where it cannot be installed."""
    folder = environment(engine.environment("mlserver"), requirements(engine))
    models = work / "mlserver-models"
    for spec in specs:
        model = models / spec.name
        model.mkdir(parents=True)
        shutil.copy(repository / spec.name / "1" / MODEL_FILE, model)
        settings = {
            "name": spec.name,
            "implementation": "onnx_runtime.OnnxRuntime",
            "max_batch_size": spec.max_batch_size,
            "max_batch_time": 0.001,
            "parameters": {"uri": str(model / MODEL_FILE)},
        }
        (model / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (model / "onnx_runtime.py").write_text(
            _RUNTIME.format(threads=engine.threads, providers=list(engine.providers)), encoding="utf-8"
        )
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "host": "127.0.0.1",
        "grpc_port": int(address.rpartition(":")[2]),
        "http_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "grpc_max_message_length": 64 * 1024 * 1024,
    }
    (models / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [str(folder / "bin/mlserver"), "start", str(models)]
    with served("mlserver", command, address, work) as contender:
        yield contender
