"""Keeps a connection to an MQTT broker: connects again, sends retained values first, resends the unconfirmed.

A client of the library lives as long as one connection. So it resends nothing by itself, which would put an
old value of a retained topic after the newest; and why no connection came about is known, because each
attempt is made here.
"""

import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from spillover.common.errors import ConfigError
from spillover.common.log import get_logger

_log = get_logger("mqtt")

QOS = 1
WINDOW = 20
"""So many messages wait for the broker's confirmation; what follows waits in the sink's queue."""
ANSWER_LIMIT_S = 3.0
"""How long a broker may take to accept a connection, and then as long to greet."""
KEEPALIVE_S = 10
"""A connection that is silent for this long is tried, and given up after as long again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Between attempts to connect: doubled after each, and shortened by up to a half so that a fleet spreads."""
BORN = b"online"
"""What Home Assistant says on its status topic when it has started."""
_GOODBYE_LIMIT_S = 1.0
LARGEST_PACKET_BYTES = 4096
"""A broker greets, confirms, and passes on a birth message; none of these needs more."""

Pause = Callable[[float], object]
"""Waits so many seconds, or until the broker's connection is to be closed."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the broker is, and how this client names and proves itself."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: Callable[[], str] = str
    """Gives the password; asked before each connection. Raises ConfigError."""
    ca: str = ""
    """PEM file of the CA that signed the broker's certificate; empty: no encryption."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. A retained one is never resent: its topic's newest value is sent anyway."""

    topic: str
    payload: bytes | str
    retain: bool


class Broker:
    """A connection that comes back. `retain` may be called from any thread, the rest from one.

    `will` is the topic and payload that the broker publishes, retained, when this client vanishes. When
    something says `online` on `birth_topic`, all retained values are sent again; empty: nothing is heard.

    Raises:
        OSError, ValueError: the CA's file cannot be used.
    """

    def __init__(
        self, access: Access, will: tuple[str, str], birth_topic: str = "", pause: Pause | None = None
    ) -> None:
        self._access = access
        self._will = will
        self._birth_topic = birth_topic
        self._tls = ssl.create_default_context(cafile=access.ca) if access.ca else None
        self._closing = threading.Event()
        self._pause = pause or self._closing.wait
        self._keeper = threading.Thread(target=self._keep, name="mqtt", daemon=True)
        self._problem = "has not answered yet"
        # Held while the library is asked to publish. The library confirms under a lock of its own, which
        # `publish` needs; so a confirmation takes the other lock alone.
        self._sending = threading.RLock()
        self._connection: _Connection | None = None
        self._retained: dict[str, bytes | str] = {}
        self._confirming = threading.Condition()
        self._sent: dict[int, Message] = {}
        """Messages by the library's number, in order, until they are confirmed."""
        self._early: set[int] = set()
        """Numbers that were confirmed before they were noted."""
        self._unsent: deque[Message] = deque()

    @property
    def online(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to connect, on a thread of its own."""
        self._keeper.start()

    def retain(self, topic: str, payload: bytes | str) -> None:
        """Set the retained value of a topic: sent now, or first of all once there is a connection."""
        with self._sending:
            self._retained[topic] = payload
            if self._connection:
                self._send(self._connection, Message(topic, payload, retain=True))

    def publish(self, topic: str, payload: bytes | str) -> None:
        """Send a message, and again after a lost connection until the broker confirms it."""
        with self._sending:
            message = Message(topic, payload, retain=False)
            if self._connection:
                self._send(self._connection, message)
            else:
                with self._confirming:
                    self._unsent.append(message)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until fewer than `WINDOW` messages are unconfirmed; tell whether it is so."""
        with self._confirming:
            return self._confirming.wait_for(lambda: self._open() < WINDOW, timeout_s)

    def flush(self, timeout_s: float) -> None:
        """Wait until the broker has confirmed everything. Raises OSError, which says why it has not."""
        with self._confirming:
            if not self._confirming.wait_for(lambda: not self._open(), timeout_s):
                problem = "does not confirm what it is sent" if self.online else self._problem
                raise OSError(f"broker {self._access.host}:{self._access.port} {problem}")

    def close(self, farewell: str) -> None:
        """Publish `farewell` in place of the will, and disconnect."""
        if self.online:
            self.retain(self._will[0], farewell)
            with suppress(OSError):  # the line just broke: the will says it
                self.flush(_GOODBYE_LIMIT_S)
        self._closing.set()
        with self._sending:
            if self._connection:
                self._connection.client.disconnect()
        if self._keeper.is_alive():
            self._keeper.join(_GOODBYE_LIMIT_S)

    def _open(self) -> int:
        return len(self._sent) + len(self._unsent)

    def _keep(self) -> None:
        """Connect again and again; the body of the thread."""
        pause_s = FIRST_PAUSE_S
        while not self._closing.is_set():
            if self._connect():
                pause_s = FIRST_PAUSE_S
            if not self._closing.is_set():
                self._pause(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads a fleet
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _connect(self) -> bool:
        """One connection, from its begin to its end; tell whether the broker accepted it."""
        try:
            client = self._client()
        except ConfigError as error:
            self._problem = f"is not asked: {error}"
            return False
        connection = _Connection(client)
        client.on_connect = partial(self._greeted, connection)
        client.on_disconnect = partial(self._ended, connection)
        client.on_publish = partial(self._confirmed, connection)
        client.on_message = partial(self._heard, connection)
        try:
            client.connect(self._access.host, self._access.port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._problem = why_unreachable(error)
            return False
        client.loop_start()
        connection.wait(self._closing)
        self._problem = connection.problem
        with self._sending:
            self._connection = None
        connection.end()
        return connection.greeted.is_set()

    def _client(self) -> "_Client":
        access = self._access
        client = _Client(CallbackAPIVersion.VERSION2, client_id=access.client_id, reconnect_on_failure=False)
        client.connect_timeout = ANSWER_LIMIT_S
        client.max_inflight_messages_set(0)  # none waits in the library: `WINDOW` is the bound
        client.will_set(*self._will, QOS, retain=True)
        if access.username:
            client.username_pw_set(access.username, access.password())
        if self._tls is not None:
            client.tls_set_context(self._tls)
        return client

    def _greeted(
        self,
        connection: "_Connection",
        client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        """The broker has answered. This and what follows runs on the library's thread."""
        if reason.is_failure:
            connection.problem = f"refuses this client ({reason}): check username and password_file"
            return
        if self._birth_topic:
            client.subscribe(self._birth_topic, QOS)
        with self._sending:
            with self._confirming:
                again = [message for message in self._sent.values() if not message.retain] + [*self._unsent]
                self._sent.clear()
                self._early.clear()
                self._unsent.clear()
            self._connection = connection
            self._send_retained(connection)
            for message in again:
                self._send(connection, message)
        connection.greeted.set()
        connection.answered.set()

    def _ended(
        self,
        connection: "_Connection",
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if too_large := connection.client.refused_bytes:
            connection.problem = f"sent a packet of {too_large} bytes"
            if self._birth_topic:  # a retained message would end every connection to come
                _log.warning(
                    "birth messages are not heard any more", topic=self._birth_topic, bytes=too_large
                )
                self._birth_topic = ""
        elif connection.greeted.is_set():
            connection.problem = f"is away: the connection has ended ({reason})"
        elif not connection.problem:
            connection.problem = f"ends the connection unasked ({reason}); does this port want TLS (`ca`)?"
        connection.ended.set()
        connection.answered.set()

    def _heard(
        self, connection: "_Connection", _client: paho.Client, _userdata: object, message: paho.MQTTMessage
    ) -> None:
        """Home Assistant has started, and knows nothing; a retained message is older than this connection."""
        if message.payload == BORN and not message.retain:
            with self._sending:
                self._send_retained(connection)

    def _confirmed(
        self, connection: "_Connection", _client: paho.Client, _userdata: object, number: int, *_: object
    ) -> None:
        with self._confirming:
            if connection is self._connection:
                if self._sent.pop(number, None) is None:
                    self._early.add(number)
                self._confirming.notify_all()

    def _send_retained(self, connection: "_Connection") -> None:
        for topic, payload in self._retained.items():
            self._send(connection, Message(topic, payload, retain=True))

    def _send(self, connection: "_Connection", message: Message) -> None:
        """Hand a message to the library; `_sending` is held."""
        info = connection.client.publish(message.topic, message.payload, QOS, message.retain)
        with self._confirming:
            if info.mid in self._early:
                self._early.remove(info.mid)
            else:
                self._sent[info.mid] = message


class _Client(paho.Client):
    """The library's client with a bound on what it receives.

    MQTT 3.1.1 has none but its own 256 MiB, and the library holds a packet as a whole. MQTT 5 has the
    property Maximum Packet Size, for brokers that speak it and keep to it.
    """

    refused_bytes = 0
    """Length of the packet that ended the connection."""

    def _sock_recv(self, bufsize: int) -> bytes:
        """Asked for all that is missing of a packet, before any of it is there."""
        if bufsize > LARGEST_PACKET_BYTES:
            self.refused_bytes = bufsize
            raise ConnectionAbortedError(f"a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection, with the client that lives as long, and why it ended."""

    client: _Client
    problem: str = ""
    greeted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    """Greeted or ended."""

    def wait(self, closing: threading.Event) -> None:
        """Wait for the end, or for `closing`."""
        if not self.answered.wait(ANSWER_LIMIT_S):
            self.problem = "takes connections and says nothing; is it an MQTT broker?"
            return
        while not self.ended.wait(_GOODBYE_LIMIT_S / 2):
            if closing.is_set():
                return

    def end(self) -> None:
        """Leave nothing behind, whatever state the line is in."""
        if isinstance(line := self.client.socket(), socket.socket):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()
        # The library closes its last sockets when its object dies, which callbacks to here would put off.
        self.client.on_connect = self.client.on_disconnect = None
        self.client.on_publish = self.client.on_message = None


def why_unreachable(error: OSError | ValueError) -> str:
    """What a person can do about a connection that did not come about."""
    why = str(error)
    match error:
        case ssl.SSLCertVerificationError():
            why = f"has a certificate that `ca` does not vouch for: {error.verify_message}"
        case ssl.SSLError():
            why = f"speaks no TLS on this port ({error.reason}): leave `ca` out, or name its TLS port"
        case socket.gaierror():
            why = f"cannot be looked up: {error.strerror}"
        case ConnectionRefusedError():
            why = "refuses connections: nothing listens on this port"
        case TimeoutError():
            why = f"does not answer within {ANSWER_LIMIT_S:.0f} s"
        case OSError():
            why = f"cannot be reached: {error.strerror or error}"
    return why
