"""How a call to the cloud can end without an answer, and what each end means: one table for the edge."""

import enum
from dataclasses import dataclass

OK = "ok"
"""Label of an answered call where calls are counted by their status."""
RETRIED = "retried"
"""Label of a call that failed and was made a second time; the second one has its own status."""


class LinkSignal(enum.Enum):
    """What the end of a call says about the link."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"
    """The call never left, or the server is merely full: `grpc-retry-pushback-ms` covers that."""


class DrainStep(enum.Enum):
    """What the spool does with a record whose delivery failed."""

    WAIT = "wait"
    """Nothing was learnt about the record: deliver it later, as often as needed."""
    COUNT_TRY = "count_try"
    """Deliver it later, at most three times in all."""
    GIVE_UP = "give_up"
    """The record can never be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one status means. The defaults are those of a server that failed to answer this frame."""

    link: LinkSignal = LinkSignal.BAD
    retry_later: bool = False
    """The same frame may be answered another time, so it may wait in the spool."""
    never_left: bool = False
    """Not a byte of the frame left the device."""
    operator_must_fix: bool = False
    """It repeats until a configuration is changed. `edge.uplink.channel` explains a refused identity."""
    drain: DrainStep = DrainStep.COUNT_TRY


_NOTHING = LinkSignal.NOTHING
_WAIT, _GIVE_UP = DrainStep.WAIT, DrainStep.GIVE_UP


class CallStatus(enum.Enum):
    """Why a call has no answer; the values are labels of metrics and begin `Result.error`."""

    means: Meaning

    # gRPC's statuses, by its names.
    CANCELLED = "cancelled", Meaning(link=_NOTHING, retry_later=True, drain=_WAIT)
    UNKNOWN = "unknown", Meaning(retry_later=True)
    INVALID_ARGUMENT = "invalid_argument", Meaning(operator_must_fix=True, drain=_GIVE_UP)
    DEADLINE_EXCEEDED = "deadline_exceeded", Meaning(retry_later=True, drain=_WAIT)
    # The model's name is a fault of a configuration, here or there: mending it must not find an empty spool.
    NOT_FOUND = "not_found", Meaning(retry_later=True, operator_must_fix=True, drain=_WAIT)
    ALREADY_EXISTS = "already_exists", Meaning()
    # An identity is renewed some day; the frames of the meantime must not be lost.
    PERMISSION_DENIED = "permission_denied", Meaning(retry_later=True, drain=_WAIT)
    UNAUTHENTICATED = "unauthenticated", Meaning(retry_later=True, drain=_WAIT)
    RESOURCE_EXHAUSTED = "resource_exhausted", Meaning(link=_NOTHING, retry_later=True)
    # The server has no tail for the head that made these features.
    FAILED_PRECONDITION = "failed_precondition", Meaning(link=_NOTHING)
    ABORTED = "aborted", Meaning()
    OUT_OF_RANGE = "out_of_range", Meaning()
    UNIMPLEMENTED = "unimplemented", Meaning(operator_must_fix=True, drain=_GIVE_UP)
    INTERNAL = "internal", Meaning(retry_later=True)
    UNAVAILABLE = "unavailable", Meaning(retry_later=True, drain=_WAIT)
    DATA_LOSS = "data_loss", Meaning()

    # The edge's own.
    BAD_REPLY = "bad_reply", Meaning(retry_later=True, operator_must_fix=True)
    """The server's answer is malformed, for another frame, or of another task."""
    NO_ANSWER_IN_TIME = "no_answer_in_time", Meaning(retry_later=True, drain=_WAIT)
    """Calls under way have missed their deadline and none has ended yet."""
    STOPPED = "stopped", Meaning(link=_NOTHING, retry_later=True, drain=_WAIT)
    """The uplink was stopped before the answer came."""
    EDGE_FAULT = "edge_fault", Meaning(link=_NOTHING, retry_later=True)
    """This program failed after the call had begun; the log has the traceback."""
    NOT_SENT = "not_sent", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The frame could not be encoded, or the call not be begun."""
    NO_TIME_LEFT = "no_time_left", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The deadline passed before the frame was encoded."""
    OVER_BUDGET = "over_budget", Meaning(link=_NOTHING, retry_later=True, never_left=True, drain=_WAIT)
    """The byte budget does not cover the message now."""
    EXCEEDS_BUCKET = (
        "exceeds_bucket",
        Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP),
    )
    """The byte budget will never cover a message of this size."""
    TOO_LARGE = (
        "too_large",
        Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP),
    )
    """The message is larger than `uplink.max_message_bytes`."""
    UNFIT = "unfit", Meaning(link=_NOTHING, never_left=True, operator_must_fix=True, drain=_GIVE_UP)
    """The service does not take this payload, or it may not leave the device."""
    NO_UPLINK = "no_uplink", Meaning(link=_NOTHING, never_left=True, drain=_WAIT)
    """Mode `edge_only`."""

    def __new__(cls, label: str, means: Meaning) -> "CallStatus":
        """Make the label the member's value."""
        member = object.__new__(cls)
        member._value_ = label
        member.means = means
        return member

    @classmethod
    def of_grpc(cls, code_name: str) -> "CallStatus":
        """The status for the name of a `grpc.StatusCode`; UNKNOWN for a code that is not in the table."""
        member = cls.__members__.get(code_name)
        return member if member is not None else cls.UNKNOWN
