"""The rules of one stream's sender: which number comes next, against what it is coded, when a key is due.

Values in, values out: clock readings and random numbers are arguments, and nothing here knows what is coded.
"""

import enum
import math
from dataclasses import dataclass, replace

CALM_S = 60.0
"""A key that is lost within this time was in vain: the next one waits."""
PAUSE_S, PAUSE_MOST_S = 2.0, 60.0
"""The pause after the second key in a row that was lost, and the longest; each is twice the one before."""
REFUSED_S = 60.0
"""The pause after a server has begun no stream, a codec has failed, or a key was too large."""
REFUSED_MOST_S = 1920.0
"""The longest pause where a server refuses again and again: each key that it is asked with is paid for."""
_MOST_STRIKES = 10


class KeyCause(enum.StrEnum):
    """Why a payload is a key; values are metrics labels, and all there are."""

    FIRST = "first"
    """Nothing was sent before."""
    LOST = "lost"
    """The server did not hold the reference."""
    REFUSED = "refused"
    """The server had begun no stream and is asked again."""
    BEHIND = "behind"
    """Too much was sent of which no answer has come."""
    CHANGED = "changed"
    """Pictures have another size than before."""
    QUALITY = "quality"
    """Another rate factor gives this camera the quality that is wanted."""
    FAILED = "failed"
    """The codec had failed and is tried again."""
    TOO_LARGE = "too_large"
    """A key was larger than what the byte budget ever pays at once, and another one is tried."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the next payload of a stream will be."""

    key: bool = True
    behind_bytes: int = 0
    """What is sent again with it, because no answer has come to it yet."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be sent behind the reference before a key is due."""

    most_payloads: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Sender:
    """What one stream's sender knows at one moment.

    A *chain* is a key and what is coded against it or what came of it. What is heard of an earlier chain says
    nothing about this one, in whatever order answers come.
    """

    bounds: Bounds
    newest: int = 0
    """Number of the newest payload; 0: there is none."""
    key: int = 0
    """Number of the key that the chain began with; 0: the next payload has to be one."""
    reference: int = 0
    """Newest number of this chain that the server has acknowledged; 0: none."""
    due: KeyCause = KeyCause.FIRST
    """Why the next payload is a key where `key` is 0."""
    strikes: int = 0
    """Chains in a row that were lost soon."""
    refusals: int = 0
    """How often in a row the server has begun no stream."""
    key_s: float = -math.inf
    """When the chain began."""
    not_before_s: float = -math.inf
    """When the next key may be sent."""

    @property
    def is_lost_again(self) -> bool:
        """Whether the chain has been lost, and the one before it was soon lost too."""
        return not self.key and self.due is KeyCause.LOST and self.strikes > 1

    def may_send(self, now_s: float) -> bool:
        """Whether a payload may be sent in the stream now; else the frame goes without one."""
        return now_s >= self.not_before_s

    def key_cause(self, behind_bytes: int = 0) -> KeyCause | None:
        """Why the next payload has to be a key; None: it need not be.

        `behind_bytes` is the size of what was sent behind the reference and would be sent again.
        """
        if not self.key:
            return self.due
        # Without a reference the key itself is still behind.
        behind = self.newest - (self.reference or self.key - 1)
        is_far = behind >= self.bounds.most_payloads or behind_bytes >= self.bounds.most_bytes
        return KeyCause.BEHIND if is_far else None

    def advanced(self, now_s: float, *, key: bool) -> "Sender":
        """The sender whose `newest` numbers the next payload, and whose `reference` that is coded against.

        `key` says whether it is one, as it must be where `key_cause` has a cause.
        """
        number = self.newest + 1
        if not key:
            return replace(self, newest=number)
        return replace(self, newest=number, key=number, reference=0, key_s=now_s)

    def acknowledged(self, number: int) -> "Sender":
        """The server has answered to this payload, so it has what was decoded of it."""
        if not self._is_of_this_chain(number) or number <= self.reference:
            return self
        return replace(self, reference=number, refusals=0)

    def lost(self, number: int, now_s: float, draw: float) -> "Sender":
        """The server does not hold what this payload was coded against, so the next one is a key.

        At once, unless the chain was young and the one before it was too: a server that loses what it was
        just given would have nothing but keys. `draw`, uniform in [0, 1), spreads the keys of many edges.
        An older payload than the reference has come too late for a server that keeps but the newest.
        """
        if not self._is_of_this_chain(number) or number < self.reference:
            return self
        strikes = min(self.strikes + 1, _MOST_STRIKES) if now_s - self.key_s < CALM_S else 1
        pause_s = 0.0 if strikes == 1 else min(PAUSE_MOST_S, PAUSE_S * 2.0 ** (strikes - 2))
        return replace(
            self._ended(KeyCause.LOST), strikes=strikes, not_before_s=now_s + pause_s * (0.5 + 0.5 * draw)
        )

    def refused(self, number: int, now_s: float, draw: float) -> "Sender":
        """The server begins no stream now, so none is sent for a minute; the next time for two, and so on."""
        if not self._is_of_this_chain(number):
            return self
        pause_s = min(REFUSED_MOST_S, REFUSED_S * 2.0**self.refusals)
        return replace(
            self._ended(KeyCause.REFUSED),
            refusals=min(self.refusals + 1, _MOST_STRIKES),
            not_before_s=now_s + pause_s * (0.75 + 0.5 * draw),
        )

    def too_large(self, number: int, now_s: float, draw: float) -> "Sender":
        """The byte budget can never pay for this payload: a key is due, or was too large itself."""
        if not self._is_of_this_chain(number):
            return self
        if number > self.key:
            return self._ended(KeyCause.BEHIND)
        return replace(self._ended(KeyCause.TOO_LARGE), not_before_s=_in_about_a_minute(now_s, draw))

    def failed(self, now_s: float, draw: float) -> "Sender":
        """The codec has failed on this side, so it is left alone for about a minute."""
        return replace(self._ended(KeyCause.FAILED), not_before_s=_in_about_a_minute(now_s, draw))

    def changed(self, due: KeyCause) -> "Sender":
        """What comes next cannot be coded against what came before, as where a picture has another size."""
        return self._ended(due) if self.key else self

    def _is_of_this_chain(self, number: int) -> bool:
        return 0 < self.key <= number <= self.newest

    def _ended(self, due: KeyCause) -> "Sender":
        return replace(self, key=0, reference=0, due=due)


def _in_about_a_minute(now_s: float, draw: float) -> float:
    return now_s + REFUSED_S * (0.75 + 0.5 * draw)
