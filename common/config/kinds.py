"""What texts in configurations must look like, as a pattern for the machine and in words for people."""

import msgspec

DIGEST = msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", description="a SHA-256 in 64 hexadecimal digits")


def name_of_at_most(longest: int) -> msgspec.Meta:
    """A name that is safe in paths, topics, certificates and metrics."""
    return msgspec.Meta(
        pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{longest - 1}}}\Z",
        description=f"1 to {longest} letters, digits, '.', '_' and '-', the first a letter or digit",
    )


def name_or_empty(longest: int) -> msgspec.Meta:
    """As `name_of_at_most`, or nothing."""
    return msgspec.Meta(
        pattern=rf"^([A-Za-z0-9][A-Za-z0-9._-]{{0,{longest - 1}}})?\Z",
        description=f"empty, or {name_of_at_most(longest).description}",
    )
