"""The ways in which a call can end without an answer, and what each implies: one table for the edge."""

import enum
import re
from dataclasses import dataclass

OK = "ok"
"""Metrics label of an answered call."""
RETRIED = "retried"
"""Metrics label of a call that failed and was repeated; the second call has its own status."""
LATE = "late"
"""Metrics label of what a frame from the spool sent, in place of the kind of its payload."""


class LinkSignal(enum.Enum):
    """What the end of a call says about the link."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"
    """The call was never sent, or the server is only full: `grpc-retry-pushback-ms` handles that."""


class DrainStep(enum.Enum):
    """What the spool does with a record whose delivery failed."""

    WAIT = "wait"
    """The failure does not concern the record: deliver it later, any number of times."""
    COUNT_TRY = "count_try"
    """Deliver it later, at most three times in all."""
    GIVE_UP = "give_up"
    """The record can never be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one status implies. The defaults are for a server that failed to answer this frame."""

    link: LinkSignal = LinkSignal.BAD
    retry_later: bool = False
    """The same frame may be answered later, so it may wait in the spool."""
    never_left: bool = False
    """No byte of the frame left the device."""
    operator_must_fix: bool = False
    """The failure repeats until a configuration changes.

    `edge.uplink.channel` explains a rejected identity.
    """
    drain: DrainStep = DrainStep.COUNT_TRY
    misfit_key: str = ""
    """Edge and cloud do not fit together, and this key of the configuration would mend it."""


_NOTHING = LinkSignal.NOTHING
_MODEL = "uplink.model_name"
_WAIT, _GIVE_UP = DrainStep.WAIT, DrainStep.GIVE_UP


class CallStatus(enum.Enum):
    """Why a call has no answer; values are metrics labels and the first word of `Result.error`.

    What a proxy answers in the server's place comes as one of gRPC's statuses. Envoy has UNAVAILABLE where it
    reaches no server or is full itself, UNKNOWN where a call took too long, INTERNAL for a call that it has
    reset for want of memory: the table is right for each of these. A refusal by size is told by its text.
    """

    means: Meaning

    # gRPC's statuses, by gRPC's names.
    CANCELLED = "cancelled", Meaning(link=_NOTHING, retry_later=True, drain=_WAIT)
    UNKNOWN = "unknown", Meaning(retry_later=True)
    INVALID_ARGUMENT = "invalid_argument", Meaning(operator_must_fix=True, drain=_GIVE_UP)
    DEADLINE_EXCEEDED = "deadline_exceeded", Meaning(retry_later=True, drain=_WAIT)
    # A wrong model name is a configuration fault on one side; spooled frames must survive until it is fixed.
    NOT_FOUND = (
        "not_found",
        Meaning(retry_later=True, operator_must_fix=True, drain=_WAIT, misfit_key=_MODEL),
    )
    ALREADY_EXISTS = "already_exists", Meaning()
    # Identities get renewed; frames from before the renewal must not be lost.
    PERMISSION_DENIED = "permission_denied", Meaning(retry_later=True, drain=_WAIT)
    UNAUTHENTICATED = "unauthenticated", Meaning(retry_later=True, drain=_WAIT)
    RESOURCE_EXHAUSTED = "resource_exhausted", Meaning(link=_NOTHING, retry_later=True)
    # The server has no tail for the head that made these features. A stream's refusals come with it too.
    FAILED_PRECONDITION = "failed_precondition", Meaning(link=_NOTHING)
    ABORTED = "aborted", Meaning()
    OUT_OF_RANGE = "out_of_range", Meaning()
    UNIMPLEMENTED = (
        "unimplemented",
        Meaning(operator_must_fix=True, drain=_GIVE_UP, misfit_key="uplink.protocol"),
    )
    INTERNAL = "internal", Meaning(retry_later=True)
    UNAVAILABLE = "unavailable", Meaning(retry_later=True, drain=_WAIT)
    DATA_LOSS = "data_loss", Meaning()

    # The edge's own statuses.
    REFUSED_AS_TOO_LARGE = (
        "refused_as_too_large",
        Meaning(link=_NOTHING, operator_must_fix=True, drain=_GIVE_UP),
    )
    """The message is larger than what the server, or a proxy before it, takes."""
    REFERENCE_LOST = "reference_lost", Meaning(link=_NOTHING, retry_later=True)
    """The server does not hold what the payload is coded against; a key would be answered."""
    STREAM_REFUSED = "stream_refused", Meaning(link=_NOTHING, retry_later=True)
    """The server begins no stream now; a picture would be answered."""
    BAD_REPLY = "bad_reply", Meaning(retry_later=True, operator_must_fix=True)
    """The server's reply is malformed, or for another frame."""
    OTHER_TASK = "other_task", Meaning(retry_later=True, operator_must_fix=True, misfit_key=_MODEL)
    """The server's model does another task than the edge's."""
    NO_ANSWER_IN_TIME = "no_answer_in_time", Meaning(retry_later=True, drain=_WAIT)
    """Calls in flight have missed their deadline, and none has ended yet."""
    STOPPED = "stopped", Meaning(link=_NOTHING, retry_later=True, drain=_WAIT)
    """The uplink stopped before the answer arrived."""
    EDGE_FAULT = "edge_fault", Meaning(link=_NOTHING, retry_later=True)
    """The edge's own code failed after the call had started; the log has the traceback."""
    NOT_SENT = "not_sent", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The frame could not be encoded, or the call could not be started."""
    NO_TIME_LEFT = "no_time_left", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The deadline passed before the frame was encoded, or would pass because it is larger than usual."""
    OVER_BUDGET = "over_budget", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The message exceeds the byte budget's balance now."""
    EXCEEDS_BUCKET = (
        "exceeds_bucket",
        Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP),
    )
    """The message is larger than the byte budget's bucket, so it can never be sent."""
    TOO_LARGE = (
        "too_large",
        Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP),
    )
    """The message is larger than `uplink.max_message_bytes`."""
    UNFIT = "unfit", Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP)
    """The service does not accept this payload, or the payload may not leave the device."""
    NO_UPLINK = "no_uplink", Meaning(link=_NOTHING, never_left=True, drain=_WAIT)
    """Mode `edge_only` has no uplink."""

    def __new__(cls, label: str, means: Meaning) -> "CallStatus":
        """Create the member with the label as its value."""
        member = object.__new__(cls)
        member._value_ = label
        member.means = means
        return member

    @classmethod
    def of_grpc(cls, code_name: str, details: str = "") -> "CallStatus":
        """The status for the name of a `grpc.StatusCode`, and the text with it.

        UNKNOWN for a code that is not in the table.
        """
        if _TOO_LARGE.get(code_name, _NEVER).match(details):
            return cls.REFUSED_AS_TOO_LARGE
        if code_name == "FAILED_PRECONDITION":
            return cls.__members__[_OF_STREAMS.get(details.partition(":")[0], code_name)]
        member = cls.__members__.get(code_name)
        return member if member is not None else cls.UNKNOWN


_NEVER = re.compile(r"(?!)")
_OF_STREAMS = {"reference": "REFERENCE_LOST", "stream": "STREAM_REFUSED"}
_TOO_LARGE = {
    "UNKNOWN": re.compile("Payload Too Large"),  # Envoy's HTTP status 413
    "RESOURCE_EXHAUSTED": re.compile(
        r"(\w+: )?(Received|Decompressed) message larger than max"
    ),  # gRPC core's
}
