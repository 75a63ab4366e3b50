"""What it would cost to parse a message, from its bytes alone.

protobuf's parser holds Python's interpreter lock from the first byte to the last, whatever thread it runs on:
16 MB of empty submessages or of one-byte numbers hold up all threads for .1 to .4 s. The walk here visits the
same fields in Python, so that other threads run in between, and ends as soon as there are too many.
"""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from spillover.common.errors import TooLargeError

_SUBMESSAGE = 64
"""The cost of a submessage in plain fields, which take the parser 50 ns: an entry of a map costs it most."""
_MAX_REPEATED = 256
"""The most elements of a repeated field of submessages, or of a map: inputs, outputs, parameters."""
_NUMBER_BYTES = 10
"""The length of the longest number. So many bytes of packed numbers cost as much as a field, or two."""

_COPIED = frozenset(
    {
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BYTES,
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_FLOAT,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_SFIXED32,
    }
)
"""Types whose bytes are copied in one go, however many elements they are."""


def check_cost(data: bytes, descriptor: Descriptor, limit: int) -> None:
    """Raise TooLargeError when parsing `data` as this message costs more than `limit` plain fields do.

    Damaged data passes: the parser stops at the damage, and says where it is.
    """
    try:
        _walk(data, 0, len(data), descriptor, limit)
    except IndexError:
        return


def _walk(data: bytes, position: int, end: int, descriptor: Descriptor, left: int) -> int:
    """What is `left` of the limit behind the fields of `data[position:end]`."""
    fields = {field.number: field for field in descriptor.fields}
    submessages: dict[int, int] = {}
    while position < end:
        tag, position = _varint(data, position)
        wire_type, left = tag & 7, left - 1
        if wire_type == 0:
            _, position = _varint(data, position)
        elif wire_type == 1:
            position += 8
        elif wire_type == 5:
            position += 4
        elif wire_type == 2:
            length, position = _varint(data, position)
            field = fields.get(tag >> 3)
            if field is not None and field.message_type is not None and field.is_repeated:
                count = submessages[field.number] = submessages.get(field.number, 0) + 1
                if count > _MAX_REPEATED:
                    raise TooLargeError(f"more than {_MAX_REPEATED} {field.name} in a {descriptor.name}")
            left = _walk_field(data, position, length, field, left)
            position += length
        if left < 0:
            raise TooLargeError(f"a {descriptor.name} of so many fields and elements costs too much to read")
    return left


def _walk_field(data: bytes, position: int, length: int, field: FieldDescriptor | None, left: int) -> int:
    if field is None or field.type in _COPIED:
        return left
    if field.message_type is None:
        return left - length // _NUMBER_BYTES
    if position + length > len(data):
        raise IndexError
    return _walk(data, position, position + length, field.message_type, left - _SUBMESSAGE)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and the position behind it. Raises IndexError when it is cut short or too long."""
    value = data[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for index in range(1, _NUMBER_BYTES):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise IndexError
