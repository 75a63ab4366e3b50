"""proto/open_inference.proto against the descriptors that Triton's own client was generated from."""

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from spillover.common.wire.pb import open_inference_pb2 as ours
from tests.support.triton import triton_config_pb, triton_pb

THEIRS = triton_pb.DESCRIPTOR.pool


def _messages(file) -> list[Descriptor]:
    found = list(file.message_types_by_name.values())
    for message in found:  # grows while it is walked
        found.extend(nested for nested in message.nested_types)
    return found


def _shape(field: FieldDescriptor) -> tuple[object, ...]:
    target = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.number, field.type, field.is_repeated, target.full_name if target else "", oneof


def test_every_field_has_its_name_number_and_type():
    """Each message and field of ours is one of theirs, with the same number, type, label and oneof."""
    checked = 0
    for message in _messages(ours.DESCRIPTOR):
        reference = THEIRS.FindMessageTypeByName(message.full_name)
        for field in message.fields:
            assert field.name in reference.fields_by_name, f"{message.full_name}.{field.name}"
            assert _shape(field) == _shape(reference.fields_by_name[field.name]), field.full_name
            checked += 1
    assert checked > 100


def test_every_enum_value_has_its_number():
    """Each enum of ours is one of theirs with the same numbers."""
    enums: list[EnumDescriptor] = [*ours.DESCRIPTOR.enum_types_by_name.values()]
    enums += [enum for message in _messages(ours.DESCRIPTOR) for enum in message.enum_types]
    for enum in enums:
        reference = THEIRS.FindEnumTypeByName(enum.full_name)
        for value in enum.values:
            assert reference.values_by_name[value.name].number == value.number, value.name
    assert triton_config_pb.TYPE_STRING == ours.TYPE_STRING


def test_every_method_has_its_types_and_direction():
    """Each method of ours is one of theirs: same path, same messages, streaming where they stream."""
    service = ours.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    reference = THEIRS.FindServiceByName(service.full_name)
    for method in service.methods:
        theirs = reference.methods_by_name[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            theirs.input_type.full_name,
            theirs.output_type.full_name,
        )
        assert (method.client_streaming, method.server_streaming) == (
            theirs.client_streaming,
            theirs.server_streaming,
        )
