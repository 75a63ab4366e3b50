"""Triton Inference Server from the wheel nvidia-pytriton: the real binary, without a container.

The wheel has the Python backend alone, so the network runs in ONNX Runtime inside that backend, batched by
Triton's own dynamic batcher. The C++ backend for ONNX Runtime is in no installable package.
"""

import contextlib
import ctypes.util
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.cloud.contenders import Contender, NotHereError, free_port, served
from benchmarks.cloud.engine import Engine
from benchmarks.cloud.environments import environment, site_packages
from benchmarks.cloud.networks import NETWORKS, NetworkSpec
from spillover.common.model.manifest import MODEL_FILE

_CONFIG = """name: "{spec.name}"
backend: "python"
max_batch_size: {spec.max_batch_size}
input [{{ name: "INPUT0" data_type: TYPE_FP32 dims: {inputs} }}]
output [{{ name: "OUTPUT0" data_type: TYPE_FP32 dims: {outputs} }}]
dynamic_batching {{}}
instance_group [{{ count: 1 kind: KIND_CPU }}]
"""

# The stub runs isolated, so the environment's packages are added here.
_MODEL = """import os
import sys

sys.path.append({site!r})
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        ort.preload_dlls()
        options = ort.SessionOptions()
        options.intra_op_num_threads = {threads}
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = ort.InferenceSession(path, options, providers={providers!r})

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(one, "INPUT0").as_numpy() for one in requests]
        joined = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        (output,) = self.session.run(["OUTPUT0"], {{"INPUT0": joined}})
        responses, start = [], 0
        for one in inputs:
            rows = pb_utils.Tensor("OUTPUT0", output[start : start + len(one)])
            responses.append(pb_utils.InferenceResponse([rows]))
            start += len(one)
        return responses
"""


def requirements(engine: Engine) -> tuple[str, ...]:
    """What Triton's environment holds.

    The backend's interpreter was built against numpy 1; its ONNX Runtime is the newest that goes with it.
    """
    return ("nvidia-pytriton==0.7.0", "numpy==1.26.4", engine.requirement)


@contextlib.contextmanager
def triton(
    repository: Path, work: Path, engine: Engine, specs: Iterable[NetworkSpec] = tuple(NETWORKS.values())
) -> Iterator[Contender]:
    """A running Triton. Raises NotHereError where its wheel or a shared libpython is missing."""
    site = site_packages(environment(engine.environment("triton"), requirements(engine)))
    server = site / "pytriton/tritonserver"
    backends = _backends(server, work)
    models = work / "triton-models"
    for spec in specs:
        _write_model(spec, repository, models / spec.name, site, engine)
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(server / "bin/tritonserver"),
        "--model-repository", str(models),
        "--backend-directory", str(backends),
        "--grpc-address", "127.0.0.1",
        "--grpc-port", address.rpartition(":")[2],
        "--allow-http", "false",
        "--allow-metrics", "false",
    ]  # fmt: skip
    libraries = f"{site}/nvidia_pytriton.libs"
    with served("triton", command, address, work, {"LD_LIBRARY_PATH": libraries}) as contender:
        yield contender


def _backends(server: Path, work: Path) -> Path:
    """The Python backend with the stub of this interpreter's version beside it, where Triton looks."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise NotHereError(f"triton: the wheel has no backend for Python {version}")
    if not ctypes.util.find_library(f"python{version}"):
        raise NotHereError(f"triton: its backend needs libpython{version}.so where the loader finds it")
    backends = work / "triton-backends"
    shutil.copytree(server / "backends/python", backends / "python")
    shutil.copy(stub, backends / "python")
    return backends


def _write_model(spec: NetworkSpec, repository: Path, folder: Path, site: Path, engine: Engine) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(repository / spec.name / "1" / MODEL_FILE, folder / "1")
    config = _CONFIG.format(spec=spec, inputs=list(spec.input_shape), outputs=list(spec.output_shape))
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    code = _MODEL.format(site=str(site), threads=engine.threads, providers=list(engine.providers))
    (folder / "1" / "model.py").write_text(code, encoding="utf-8")
