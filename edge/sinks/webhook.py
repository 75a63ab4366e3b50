"""Posts events and results to a URL, signed; docs/reference/sinks.md has the form.

The headers are those of Standard Webhooks (https://www.standardwebhooks.com, symmetric signature v1), for
which receivers have libraries: an id that is the same when a post is repeated, the time of sending, and the
HMAC-SHA256 of id, time and body. What the body calls `id` is what it is about, the same in each phase or
revision, so that a receiver updates what it has shown.

A server that is away, slow or answers 5xx, 408 or 429 is tried again, later each time, while the rest waits
in the sink's queue. What it refuses otherwise it would refuse again: that is lost, and counted.
"""

import base64
import binascii
import hashlib
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.log import get_logger
from spillover.common.net.post import post, trusted
from spillover.common.net.reload import read_secret
from spillover.common.types import Result
from spillover.edge.config import WebhookConfig
from spillover.edge.results.delivery import OF_OBJECTS, Event, EventKind
from spillover.edge.sinks.record import Encode, encode_event

_log = get_logger("webhook")

WINDOW = 20
"""So many posts wait in the sink; what follows waits in its queue, where the oldest make room."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between attempts: doubled after each, and as long as the server asks for, up to the longest."""
_AGAIN = frozenset({408, 425, 429})
_PREFIX = "whsec_"
RESULT = "result"


def takes(config: WebhookConfig, item: Result | Event) -> bool:
    """Whether an item is to be posted."""
    if isinstance(item, Result):
        return config.results
    return config.events == "all" or item.kind in OF_OBJECTS or item.kind is EventKind.EVIDENCE


def signature(secret: str, webhook_id: str, at_s: int, body: bytes) -> str:
    """The header `webhook-signature`. `secret` is base64 after `whsec_`, else the text itself.

    Raises:
        ConfigError: what follows `whsec_` is no base64.
    """
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error as error:
            raise ConfigError(f"secret_file: what follows {_PREFIX} is no base64") from error
    signed = b"%s.%d.%s" % (webhook_id.encode(), at_s, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


class WebhookSink:
    """One post an item, in order. `clock` gives monotonic seconds, `wall` those since 1970.

    Raises:
        ConfigError: a file named in the configuration cannot be read.
    """

    def __init__(
        self,
        config: WebhookConfig,
        device_id: str,
        encode: Encode,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.refused: list[Result | Event] = []
        self._config = config
        self._device_id = device_id
        self._encode = encode
        self._clock = clock
        self._wall = wall
        self._secret = partial(read_secret, Path(config.secret_file).expanduser(), "sinks: secret_file")
        self._held: deque[_Post] = deque()
        self._closing = threading.Event()
        self._problem, self._pause_s, self._next_s = "", FIRST_PAUSE_S, clock()
        try:
            signature(self._secret(), "", 0, b"")
            self._tls = trusted(config.ca)
        except ConfigError as error:
            raise ConfigError(f"sinks: {str(error).removeprefix('sinks: ')}") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"sinks: ca: {config.ca}: {error}") from error

    def start(self) -> None:
        """Nothing runs in the background."""

    def notice(self, event: Event) -> None:
        """Events are taken in their turn."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait a moment while too much is held."""
        if len(self._held) >= WINDOW:
            self._closing.wait(timeout_s)
        return len(self._held) < WINDOW

    def write(self, result: Result) -> None:
        """Hold a result: its id is the frame's, in each revision."""
        about, record = result.frame_id, msgspec.Raw(self._encode(result))
        self._hold(result, f"{about}:{result.revision}", RESULT, about, record)

    def tell(self, event: Event) -> None:
        """Hold an event: its id is that of the object's event, in each phase."""
        fields, kind = event.fields, event.kind.value
        record = msgspec.Raw(encode_event(event))
        if event_id := fields.get("event_id"):
            self._hold(event, f"{event_id}:{fields['phase']}", kind, str(event_id), record)
        else:
            about = str(fields.get("name") or fields.get("frame_id") or f"{kind}:{event.at_unix_s:.6f}")
            webhook_id = f"{self._device_id}:{kind}:{about}:{event.at_unix_s:.6f}"
            self._hold(event, webhook_id, kind, about, record)

    def flush(self) -> None:
        """Post what is held. Raises OSError: the server is away, or it is too early to try again."""
        self.refused = []
        if self._held and self._clock() < self._next_s:
            raise OSError(self._problem)
        while self._held:
            self._post(self._held[0])
            self._held.popleft()
            self._pause_s = FIRST_PAUSE_S

    def reopen(self) -> None:
        """A server has no file."""

    def close(self) -> None:
        """Nothing is open between two posts."""
        self._closing.set()

    def _hold(
        self, item: Result | Event, webhook_id: str, kind: str, about: str, record: msgspec.Raw
    ) -> None:
        body = {"type": kind, "id": about, "device_id": self._device_id, "data": record}
        self._held.append(_Post(item, webhook_id, msgspec.json.encode(body)))

    def _post(self, held: "_Post") -> None:
        """Raises OSError: it is to be tried again."""
        at_s, asked_s = int(self._wall()), ""
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "spillover",
                "webhook-id": held.webhook_id,
                "webhook-timestamp": str(at_s),
                "webhook-signature": signature(self._secret(), held.webhook_id, at_s, held.body),
            }
            status, asked_s = post(self._config.url, held.body, headers, self._config.timeout_s, self._tls)
        except (UnavailableError, ConfigError) as error:  # the file is being replaced, say
            why = str(error)
        else:
            if status in range(200, 300):
                return
            why = f"the server answers {status}"
            if status not in _AGAIN and status not in range(500, 600):
                _log.warning("post refused", status=status, id=held.webhook_id)
                self.refused.append(held.item)
                return
        wanted_s = float(asked_s) if asked_s.isascii() and asked_s.isdigit() else 0.0
        self._next_s = self._clock() + min(max(self._pause_s, wanted_s), LONGEST_PAUSE_S)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._problem = why
        raise OSError(why)


class _Post(NamedTuple):
    """One post on its way."""

    item: Result | Event
    webhook_id: str
    body: bytes
