"""Other protocols than gRPC's, and versions of TLS that are not spoken any more."""

import socket
import ssl
import warnings
from contextlib import suppress

from tests.attack.suite import ATTACKER, CALL_S, STILL_OPEN, Scene, attempt
from tests.attack.world import STRANGER, Kind, Mode

HTTP_1 = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_SAID = (HTTP_1, b"SSH-2.0-x\r\n", bytes(range(256)) * 4, b"PRI * HTTP/2.0\r\n\r\nXX")
_MAX_LINES = 40


@attempt(Kind(), "closed", direct_only=True)
def other_protocols(scene: Scene) -> None:
    """HTTP/1.1, TLS, SSH and random bytes to the port in the clear."""
    for said in _SAID:
        _say(scene, said)
    with suppress(OSError):
        scene.connect(STRANGER, tls=scene.world.client_tls(Mode.TOKEN))
        scene.require(False, "TLS was spoken on the port in the clear")


@attempt(Kind(Mode.TOKEN), "closed")
def other_protocols_to_tls(scene: Scene) -> None:
    """HTTP/1.1, HTTP/2 in the clear and random bytes to the TLS port, HTTP/1.1 inside of TLS; few lines."""
    before = scene.server.log.read_bytes().count(b"\n")
    for said in (*_SAID, *(HTTP_1,) * scene.of(50, 50)):
        _say(scene, said)
    connection = scene.connect(STRANGER, greets=False)
    connection.send(HTTP_1)
    scene.pump(lambda: bool(connection.ending))
    scene.saw("closed" if connection.ending else STILL_OPEN)
    lines = scene.server.log.read_bytes().count(b"\n") - before
    scene.require(lines < _MAX_LINES, f"{lines} lines in the log")


@attempt(Kind(Mode.TOKEN), "refused")
def old_versions_of_tls(scene: Scene) -> None:
    """TLS 1.1, and TLS 1.2 with suites that do not authenticate what they encrypt."""
    old = ssl.create_default_context(cafile=str(scene.world.pki.ca))
    old.check_hostname = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is the point
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    weak = ssl.create_default_context(cafile=str(scene.world.pki.ca))
    weak.check_hostname = False
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    for what, context in (("TLS 1.1", old), ("CBC suites", weak)):
        seen = "refused"
        with suppress(OSError):
            scene.connect(STRANGER, tls=context)
            seen = "spoken"
        scene.saw(seen, what=what)


def _say(scene: Scene, said: bytes) -> None:
    """Say it, and wait until the server closes the connection."""
    source = (ATTACKER, 0)
    with socket.create_connection(scene.server.address, timeout=CALL_S, source_address=source) as plain:
        seen = "closed"
        try:
            plain.sendall(said)
            while plain.recv(65_536):
                pass
        except TimeoutError:
            seen = STILL_OPEN
        except OSError:
            pass
        scene.saw(seen)
