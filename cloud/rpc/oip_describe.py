"""What the protocol's metadata methods say of the server and its models."""

from collections.abc import Iterable
from importlib.metadata import version

from spillover.cloud.serving.registry import Registry
from spillover.cloud.serving.served_model import ServedModel
from spillover.cloud.telemetry.statistics import Statistics, Total
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.base import Device, TensorSpec
from spillover.common.types import ModelId
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.tensors import DATATYPES

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
    executor = loaded.executor
    return pb.ModelMetadataResponse(
        name=loaded.model_id.name,
        versions=versions,
        platform=executor.platform,
        inputs=[_tensor_metadata(spec) for spec in executor.specs.inputs],
        outputs=[_tensor_metadata(spec) for spec in executor.specs.outputs],
    )


def model_config(loaded: ServedModel) -> pb.ModelConfigResponse:
    """How the model is run; `dims` are without the batch axis where requests are joined."""
    batching, executor, specs = loaded.batching, loaded.executor, loaded.executor.specs
    skip = 1 if loaded.max_batch_size else 0
    on_gpu = executor.device is Device.GPU
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
    config = pb.ModelConfig(
        name=loaded.model_id.name,
        platform=executor.platform,
        backend=executor.platform.partition("_")[0],
        max_batch_size=loaded.max_batch_size,
        input=[
            pb.ModelInput(name=s.name, data_type=_data_type(s), dims=s.shape[skip:]) for s in specs.inputs
        ],
        output=[
            pb.ModelOutput(name=s.name, data_type=_data_type(s), dims=s.shape[skip:]) for s in specs.outputs
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


def repository_index(registry: Registry, on_disk: Iterable[ModelId]) -> pb.RepositoryIndexResponse:
    """Every version in memory or among those `on_disk`, and whether it answers."""
    loaded = {(one.model_id.name, one.model_id.version) for one in registry.models()}
    response = pb.RepositoryIndexResponse()
    for name, number in sorted(loaded | {(one.name, one.version) for one in on_disk}):
        ready = (name, number) in loaded
        response.models.add(
            name=name,
            version=number,
            state="READY" if ready else "UNAVAILABLE",
            reason="" if ready else registry.reason(name, number),
        )
    return response


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=DATATYPES[spec.dtype], shape=spec.shape
    )


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    datatype = DATATYPES[spec.dtype]
    return pb.DataType.Value(_CONFIG_TYPE.get(datatype, f"TYPE_{datatype}"))


def _duration(total: Total) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=total.count, ns=round(total.seconds * 1e9))
