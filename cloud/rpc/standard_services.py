"""gRPC's own services as today's clients call them: reflection v1, and health with `List`.

The Python packages are behind: grpcio-reflection has v1alpha alone, grpcio-health-checking no `List`. On the
wire v1 of reflection is v1alpha under another name, so one servicer answers both. The descriptors are made
here, in a pool of their own, where they cannot collide with those of a later release of these packages.
"""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

HEALTH = "grpc.health.v1.Health"
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA: str = reflection.SERVICE_NAME

_LIST = """
message_type { name: "HealthListRequest" }
message_type {
  name: "HealthListResponse"
  field {
    name: "statuses" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
    type_name: ".grpc.health.v1.HealthListResponse.StatusesEntry"
  }
  nested_type {
    name: "StatusesEntry"
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field {
      name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
      type_name: ".grpc.health.v1.HealthCheckResponse"
    }
    options { map_entry: true }
  }
}
"""
"""The part of https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto that is missing."""


def described(files: Iterable[FileDescriptor]) -> DescriptorPool:
    """A pool of these files, with those of health and of both versions of reflection."""
    pool = DescriptorPool()
    added: set[str] = set()
    for file in (*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        _add(pool, file, added)
    v1alpha = text_format.MessageToString(_proto(reflection_pb2.DESCRIPTOR))
    pool.Add(text_format.Parse(v1alpha.replace("v1alpha", "v1"), descriptor_pb2.FileDescriptorProto()))
    return pool


def list_messages() -> tuple[Any, Any]:
    """The classes of `Health/List`'s request and response."""
    pool = described(())
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.health.v1.HealthList{name}"))
        for name in ("Request", "Response")
    )  # type: ignore[return-value]  # two of them


def add_reflection(server: grpc.aio.Server, services: Iterable[str], files: Iterable[FileDescriptor]) -> None:
    """Serve reflection of `services`, which `files` describe, under both of its names."""
    names = (*services, HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA)
    servicer = reflection.aio.ReflectionServicer(  # type: ignore[attr-defined]  # missing in the stubs
        names, pool=described(files)
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": info}),)
    )


def _add(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add(pool, dependency, added)
    proto = _proto(file)
    if file.package == "grpc.health.v1" and "HealthListRequest" not in file.message_types_by_name:
        text_format.Merge(_LIST, proto)
        proto.service[0].method.add(
            name="List",
            input_type=".grpc.health.v1.HealthListRequest",
            output_type=".grpc.health.v1.HealthListResponse",
        )
    pool.Add(proto)


def _proto(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    return proto
