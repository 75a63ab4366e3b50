"""What goes into a spool, what becomes of it, and its state; apart, so that a status needs no checksums."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

NOT_OPEN = "not open yet"
"""The spool's error before the first attempt to open its file."""


class Fate(enum.Enum):
    """How a record entered or left the spool."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"
    FAILED = "failed"
    """The cloud can never answer it."""
    EVICTED = "evicted"
    """Evicted for a more valuable record."""
    EXPIRED = "expired"
    CORRUPT = "corrupt"
    """Damaged on the disk."""
    DUPLICATE = "duplicate"
    """A copy of another record on the disk, which stays."""


class Refusal(enum.Enum):
    """Why the spool did not accept a frame."""

    ENCODER_BUSY = "queue full"
    """Too many frames wait to be encoded."""
    NOT_ENCODED = "not encoded"
    """The frame could not be encoded."""
    DISK_SLOW = "disk too slow"
    """Too many records wait for the writer."""
    DISK_FAILED = "disk failed"
    """The disk is full, read-only or broken."""
    LEAST_VALUABLE = "least valuable"
    """There is no room, and every record in the spool is worth more."""
    CLOSED = "closed"
    """The daemon is stopping."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Size, age, and how quickly the disk gets what is offered. See `edge.config.SpoolConfig`."""

    max_bytes: int
    max_age_s: float
    commit_interval_s: float = 0.05
    queue_size: int = 64


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spool at one moment; counts are of this run of the daemon.

    `accepted + recovered = answered + failed + evicted + expired + corrupt + duplicate + pending`.
    """

    pending: int = 0
    """Records on the disk, pinned ones included."""
    pending_bytes: int = 0
    oldest_age_s: float = 0.0
    recovered: int = 0
    """Records found at the start, damaged ones included."""
    accepted: int = 0
    """Records synced to the disk."""
    answered: int = 0
    failed: int = 0
    """Records that the cloud can never answer."""
    evicted: int = 0
    expired: int = 0
    corrupt: int = 0
    duplicate: int = 0
    """Copies of other records, which two writers or a disk that mends itself leave behind."""
    syncs: int = 0
    error: str = NOT_OPEN
    """Why the disk is not in use now; empty while it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that `take` returned and pinned."""

    record_id: int
    body: bytes
    age_s: float
    """Seconds that the daemon ran since the record was spooled."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A record for the disk; `key` names it to the observer, the highest `value` stays longest."""

    value: float
    key: str
    body: bytes


OnFate = Callable[[Fate, str], None]
"""Called with each record's fate and key, while the disk is in use: must neither block nor call the spool."""
OnRefused = Callable[[Refusal], None]
"""Called once for each record that is not accepted, on any thread: must neither block nor call the spool."""
