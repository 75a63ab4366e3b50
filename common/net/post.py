"""One POST to a web server of somebody else's, within a limit of time; the answer's body is not read.

The text of an error has the host alone, because the rest of a URL may be a secret.
"""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from spillover.common.errors import UnavailableError
from spillover.common.net.fetch import shut_after, tcp_connection


def trusted(ca: str) -> ssl.SSLContext:
    """What servers are checked by: the PEM file `ca`, or what the system trusts. Raises OSError."""
    return ssl.create_default_context(cafile=str(Path(ca).expanduser()) if ca else None)


def post(
    url: str, body: bytes, headers: Mapping[str, str], limit_s: float, tls: ssl.SSLContext
) -> tuple[int, str]:
    """The status of the answer and its header `Retry-After`; redirects are not followed.

    Raises:
        UnavailableError: nobody answers there within about `limit_s`, or not in HTTP, or with a certificate
            that `tls` does not trust.
    """
    parts = urlsplit(url)
    with connected(url, limit_s, tls) as connection, shut_after(connection, limit_s):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Retry-After", "")


@contextmanager
def connected(url: str, limit_s: float, tls: ssl.SSLContext) -> Iterator[http.client.HTTPConnection]:
    """A connection to the server of `url`. Raises UnavailableError, also for what goes wrong in the body."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = tcp_connection(host, parts.port, limit_s, tls if parts.scheme == "https" else None)
    try:
        connection.connect()
        yield connection
    except ssl.SSLCertVerificationError as error:
        why = f"has a certificate that is not trusted: {error.verify_message}"
        raise UnavailableError(f"{host} {why}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"{host} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
