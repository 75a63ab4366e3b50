"""What the protocol's metadata methods say of the server and its models."""

from collections.abc import Iterable
from importlib.metadata import version

from spillover.cloud.executors.local import TensorSpec
from spillover.cloud.serving.registry import Registry
from spillover.cloud.serving.served_model import ServedModel
from spillover.cloud.telemetry.statistics import Statistics, Total
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.wire.pb import open_inference_pb2 as pb

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)

# The configuration's element types are the protocol's with a prefix, but for strings.
_CONFIG_TYPE = {"BYTES": "TYPE_STRING"}


def server_metadata() -> pb.ServerMetadataResponse:
    """Name, version, extensions."""
    return pb.ServerMetadataResponse(name="spillover", version=version("spillover"), extensions=EXTENSIONS)


def model_metadata(loaded: ServedModel, versions: Iterable[str]) -> pb.ModelMetadataResponse:
    """Inputs and outputs as they are sent, with the batch axis."""
    return pb.ModelMetadataResponse(
        name=loaded.model_id.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[_tensor_metadata(spec) for spec in loaded.network.inputs],
        outputs=[_tensor_metadata(spec) for spec in loaded.network.outputs],
    )


def model_config(loaded: ServedModel) -> pb.ModelConfigResponse:
    """How the model is run; `dims` are without the batch axis where requests are joined."""
    batching, network = loaded.batching, loaded.network
    skip = 1 if loaded.max_batch_size else 0
    on_gpu = "CUDAExecutionProvider" in network.session.get_providers()
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
    config = pb.ModelConfig(
        name=loaded.model_id.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=loaded.max_batch_size,
        input=[
            pb.ModelInput(name=s.name, data_type=_data_type(s), dims=s.shape[skip:]) for s in network.inputs
        ],
        output=[
            pb.ModelOutput(name=s.name, data_type=_data_type(s), dims=s.shape[skip:]) for s in network.outputs
        ],
        instance_group=[
            pb.ModelInstanceGroup(name=loaded.model_id.name, kind=kind, count=batching.instances)
        ],
        default_model_filename=MODEL_FILE,
    )
    if loaded.max_batch_size:
        config.dynamic_batching.preferred_batch_size.extend(batching.preferred_sizes)
        config.dynamic_batching.max_queue_delay_microseconds = round(batching.max_queue_delay_s * 1e6)
    return pb.ModelConfigResponse(config=config)


def model_statistics(loaded: ServedModel) -> pb.ModelStatistics:
    """What the version has done since it was loaded."""
    done: Statistics = loaded.statistics
    return pb.ModelStatistics(
        name=loaded.model_id.name,
        version=loaded.model_id.version,
        last_inference=done.last_unix_ms,
        inference_count=done.rows,
        execution_count=done.runs,
        inference_stats=pb.InferStatistics(
            success=_duration(done.success),
            fail=_duration(done.fail),
            queue=_duration(done.queue),
            compute_input=_duration(done.compute_input),
            compute_infer=_duration(done.compute_infer),
            compute_output=_duration(done.compute_output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=rows, compute_infer=_duration(total))
            for rows, total in sorted(done.batches.items())
        ],
    )


def repository_index(registry: Registry, *, ready_only: bool) -> pb.RepositoryIndexResponse:
    """Every version on disk or in memory, and whether it answers."""
    loaded = {(one.model_id.name, one.model_id.version) for one in registry.models()}
    on_disk = {
        (name, version)
        for name in registry.repository.names()
        for version in registry.repository.versions(name)
    }
    response = pb.RepositoryIndexResponse()
    for name, number in sorted(loaded if ready_only else loaded | on_disk):
        ready = (name, number) in loaded
        response.models.add(
            name=name,
            version=number,
            state="READY" if ready else "UNAVAILABLE",
            reason="" if ready else registry.reason(name, number),
        )
    return response


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    return pb.DataType.Value(_CONFIG_TYPE.get(spec.datatype, f"TYPE_{spec.datatype}"))


def _duration(total: Total) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=total.count, ns=round(total.seconds * 1e9))
