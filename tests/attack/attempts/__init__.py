"""All attempts; importing this fills `tests.attack.suite.ATTEMPTS`, in the order of the table."""

from tests.attack.attempts import (
    answers,
    bodies,
    connections,
    features,
    floods,
    headers,
    identities,
    operation,
    overload,
    pictures,
    protocols,
    streams,
    tensors,
    video,
)

__all__ = [
    "answers",
    "bodies",
    "connections",
    "features",
    "floods",
    "headers",
    "identities",
    "operation",
    "overload",
    "pictures",
    "protocols",
    "streams",
    "tensors",
    "video",
]
