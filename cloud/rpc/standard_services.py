"""gRPC's own services as today's clients call them: reflection v1, and health with `List`.

The Python packages are behind: grpcio-reflection has v1alpha alone, grpcio-health-checking no `List`. On the
wire v1 of reflection is v1alpha under another name, so one servicer answers both. The descriptors are made
here, in a pool of their own, where they cannot collide with those of a later release of these packages.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from spillover.cloud.rpc.methods import Method, methods_of

HEALTH = "grpc.health.v1.Health"
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

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


def reflection_methods(pool: DescriptorPool, services: Iterable[str]) -> Iterator[Method]:
    """Reflection of `services`, which `pool` describes, under both of its names."""
    servicer = ReflectionServicer((*services, HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA), pool=pool)
    for service in reflection_pb2.DESCRIPTOR.services_by_name.values():
        for method in methods_of(service, servicer, of_library=True):
            yield method
            yield replace(method, path=method.path.replace(REFLECTION_V1ALPHA, REFLECTION_V1))


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
