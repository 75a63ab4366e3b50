"""tritonclient in the same process as our own messages of the Open Inference Protocol.

Both sides' generated files declare package `inference`, as the protocol demands, and one descriptor pool
holds each name once. Generated code registers in whatever `descriptor_pool.Default()` gives while it is
imported, so the client's is imported with a pool of its own. On the wire nothing changes.
"""

from unittest import mock

from google.protobuf import descriptor_pool

# Imported first, with the pool that everybody shares: both need google's well-known types there.
import spillover.common.wire.pb.open_inference_pb2  # noqa: F401

_pool = descriptor_pool.DescriptorPool()
with mock.patch.object(descriptor_pool, "Default", return_value=_pool):
    import tritonclient.grpc as triton
    import tritonclient.grpc.aio as triton_aio
    from tritonclient.grpc import model_config_pb2 as triton_config_pb
    from tritonclient.grpc import service_pb2 as triton_pb

__all__ = ["triton", "triton_aio", "triton_config_pb", "triton_pb"]
