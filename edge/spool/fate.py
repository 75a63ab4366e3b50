"""What becomes of a frame for the spool; apart, so that who only reads a status needs no checksums."""

import enum


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
