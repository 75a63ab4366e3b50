"""The live view where callers must prove who they are: tokens, the form and its cookie, over real TLS."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.net.http import MAX_OF_ADDRESS, places
from spillover.common.net.http.handler import Handler
from spillover.common.security.tokens import add_token, revoke_tokens
from spillover.edge.status.ask import ask
from spillover.edge.web.gate import WRONG_TOKENS
from spillover.edge.web.hub import MAX_VIEWERS
from tests.support.live_view import LiveStreet, live_street, pictures
from tests.support.pki import Pki
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.tracked import until

API = ("/api/v1/status", "/api/v1/results", "/api/v1/events")
PAGES = ("/live.mjpg", "/events", *API, "/status", "/metrics")


class SecureStreet:
    """A running daemon with TLS and tokens."""

    def __init__(self, street: LiveStreet, tokens: Path) -> None:
        self.street = street
        self.tokens = tokens
        self.token = add_token(tokens, "ladder", "viewer", None)
        self.session = self.cookie()

    def bearer(self, token: str | None = None) -> dict[str, str]:
        """The header of a program."""
        return {"Authorization": f"Bearer {token or self.token}"}

    def log_in(self, token: str | None = None, **headers: str) -> tuple[int, str, bytes]:
        """Status, cookie with its attributes, and body of what the form gets."""
        form = {"Content-Type": "application/x-www-form-urlencoded"} | headers
        body = f"token={token or self.token}".encode()
        with self.street.stream("/login", form, "POST", body) as answer:
            return answer.status, answer.headers.get("Set-Cookie", ""), answer.read()

    def cookie(self, token: str | None = None) -> dict[str, str]:
        """The header of a browser that is logged in."""
        status, cookie, _ = self.log_in(token)
        assert status == 303
        return {"Cookie": cookie.partition(";")[0]}


@pytest.fixture(scope="module")
def pole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureStreet]:
    """One daemon for the tests of this file; each uses a token of its own where it spoils one."""
    folder = tmp_path_factory.mktemp("secure")
    pki, tokens = Pki(folder / "ca"), folder / "tokens.yaml"
    add_token(tokens, "first", "viewer", None)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    context = ssl.create_default_context(cafile=pki.ca)
    with live_street(folder, context=context, security=security) as street:
        yield SecureStreet(street, tokens)


def test_only_probes_and_the_form_are_for_everybody(pole: SecureStreet) -> None:
    """All else wants a token, also metrics and the status; a browser at the page is led to the form."""
    for path in ("/livez", "/readyz", "/login", "/live.css", "/live.js"):
        assert pole.street.get(path)[0] == 200
    for path in (*PAGES, "/api/v1/snapshot/camera.jpg", "/api/v1/snapshot/nobody.jpg"):
        status, why = pole.street.get(path)
        assert (status, why.startswith(b"sign in at /login, or send")) == (401, True)
    assert pole.street.get("/api/v1/infer", method="POST", body=b"x")[0] == 401
    with pole.street.stream("/") as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
    assert b"camera" not in pole.street.get("/nothing")[1]


def test_a_program_sends_its_token_as_a_header(pole: SecureStreet) -> None:
    """One for metrics alone sees no picture, and opens no session."""
    with pole.street.stream("/live.mjpg", pole.bearer()) as answer:
        assert next(pictures(answer)).any()
    mine = {pole.street.get(path, pole.bearer())[0] for path in (*API, "/status", "/metrics")}
    assert mine == {200}
    scraper = add_token(pole.tokens, "scraper", "metrics", None)
    seen = {path: pole.street.get(path, pole.bearer(scraper))[0] for path in (*PAGES, "/")}
    assert {path for path, status in seen.items() if status == 200} == {"/metrics", "/status"}
    assert set(seen.values()) == {200, 403}
    assert pole.log_in(scraper)[:2] == (403, "")


def test_the_status_is_asked_over_tls_with_a_token(pole: SecureStreet, tmp_path: Path) -> None:
    """As `spillover edge status` does; without a token, or another CA, the error says what is wrong."""
    (tmp_path / "token").write_text(f"{pole.token}\n")
    ca, address = pole.tokens.parent / "ca" / "ca.crt", pole.street.address
    assert ask(address, tmp_path / "token", ca).device_id == "pole-7"
    for files in ((None, ca), (tmp_path / "token", None), (tmp_path / "token", Pki(tmp_path / "other").ca)):
        with pytest.raises(UnavailableError):
            ask(address, *files)
    with pytest.raises(UnavailableError, match=r"if it serves TLS, name the CA with --ca"):
        ask(address, tmp_path / "token")


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"\xff\xfe"], ids=["nothing", "text", "bytes"])
def test_a_ca_that_is_none_is_named(tmp_path: Path, pem: bytes) -> None:
    """And never taken for "whatever the system trusts"."""
    (tmp_path / "ca.crt").write_bytes(pem)
    with pytest.raises(ConfigError, match=r"--ca: .*ca\.crt holds no PEM certificate"):
        ask("127.0.0.1:9", ca=tmp_path / "ca.crt")


def test_the_form_gives_a_cookie_that_no_script_and_no_other_site_can_use(pole: SecureStreet) -> None:
    """Pictures and events come by it; it goes over TLS alone, and the end of the session takes it away."""
    status, cookie, _ = pole.log_in()
    value, *attributes = cookie.split("; ")
    assert status == 303
    assert value.startswith("__Host-spillover=ladder~")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"}
    assert pole.token.partition("~")[2] not in cookie
    mine = {"Cookie": f"theme=dark; {value}; =; x"}
    with pole.street.stream("/live.mjpg", mine) as answer:
        assert next(pictures(answer)).any()
    assert pole.street.get("/", mine)[0] == 200
    own = {"Origin": f"https://{pole.street.address}"}
    with pole.street.stream("/logout", mine | own, "POST") as answer:
        assert answer.status == 303
        assert "Max-Age=0" in answer.headers["Set-Cookie"]


def test_a_forged_cookie_opens_nothing(pole: SecureStreet) -> None:
    """Another name, a longer time, a seal cut short, another token's, rubbish."""
    name, until_s, seal = pole.cookie()["Cookie"].partition("=")[2].split("~")
    add_token(pole.tokens, "other", "viewer", None)
    forged = [
        f"other~{until_s}~{seal}",
        f"{name}~{int(until_s) + 1}~{seal}",
        f"{name}~{until_s}~{seal[:-1]}",
        f"{name}~{until_s}~",
        f"{name}~0~{seal}",
        f"{name}~{'9' * 400}~{seal}",
        "~" * 3000,
        "\u00e9~1~2",
        "",
    ]
    for value in forged:
        headers = {"Cookie": f"__Host-spillover={value}"}
        assert pole.street.get("/api/v1/status", headers)[0] == 401, value
    assert pole.street.get("/api/v1/status", {"Cookie": f"spillover={name}~{until_s}~{seal}"})[0] == 401


def test_a_token_that_is_taken_back_ends_what_it_has_opened(pole: SecureStreet) -> None:
    """The stream that runs, the session of the cookie, and the header."""
    token = add_token(pole.tokens, "guest", "viewer", None)
    cookie = pole.cookie(token)
    with pole.street.stream("/live.mjpg", cookie) as answer:
        shown = pictures(answer)
        next(shown)
        assert revoke_tokens(pole.tokens, "guest") == 1
        for _ in shown:
            pass  # it ends
    assert pole.street.get("/api/v1/status", cookie)[0] == 401
    assert pole.street.get("/api/v1/status", pole.bearer(token))[0] == 401


@pytest.mark.parametrize("query", ["token=SECRET", "camera=camera&access_token=SECRET", "Token=SECRET"])
def test_a_token_in_an_address_is_refused(pole: SecureStreet, query: str) -> None:
    """With a sentence that says where it belongs, on every page and whoever asks; it opens nothing."""
    for path in ("/", "/login", "/metrics", "/live.mjpg", "/events"):
        status, why = pole.street.get(f"{path}?{query.replace('SECRET', pole.token)}")
        assert (status, why.startswith(b"a token never goes into an address")) == (400, True)
    assert b'page_refused_total{cause="invalid"}' in pole.street.get("/metrics", pole.bearer(pole.token))[1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
    ],
)
def test_no_other_site_logs_anybody_in_or_out(pole: SecureStreet, headers, status: int) -> None:
    """A form of another site gets 403; with a cookie so does one that does not say where it stands."""
    assert pole.log_in(**headers)[0] == status
    assert pole.street.get("/logout", pole.cookie() | headers, "POST")[0] == status
    assert pole.street.get("/api/v1/infer", pole.cookie(), "POST", b"x")[0] == 403


@pytest.mark.parametrize("body", [b"", b"token=", b"x" * 100_000, b"token=\xff", b"&" * 999])
def test_a_form_that_is_none_has_a_clear_answer(pole: SecureStreet, body: bytes) -> None:
    """Too long, of rubbish, without a token."""
    status, why = pole.street.get("/login", method="POST", body=body)
    assert status in {400, 401, 429}
    assert why


def test_wrong_tokens_are_looked_at_ever_more_seldom(pole: SecureStreet) -> None:
    """After so many the address is told to wait, and for how long; a session that is open goes on."""
    cookie = pole.cookie()
    statuses = [pole.log_in("ladder~wrong")[0] for _ in range(WRONG_TOKENS + 2)]
    assert statuses[-1] == 429
    assert set(statuses) <= {401, 429}
    with pole.street.stream("/api/v1/status", pole.bearer("nobody~x")) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert b"too many wrong tokens" in answer.read()
    assert pole.street.get("/api/v1/status", cookie)[0] == 200
    assert b'page_refused_total{cause="rate"}' in pole.street.get("/metrics", cookie)[1]


def test_handshakes_that_stall_cost_nobody_else(pole: SecureStreet) -> None:
    """Silent ones, half of a handshake, and headers that drip: each page comes, and no thread stays."""
    cookie = pole.session
    host, _, port = pole.street.address.rpartition(":")
    threads = threading.active_count()
    clients = []
    for number in range(4 * MAX_OF_ADDRESS):
        client = socket.create_connection((host, int(port)), PATIENCE_S)
        client.sendall((b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.0\r\n")[number % 3])
        clients.append(client)
        if number % 8 == 0:
            assert pole.street.get("/livez")[0] == 200
    dripping = pole.street.context.wrap_socket(
        socket.create_connection((host, int(port)), PATIENCE_S), server_hostname=host
    )
    dripping.sendall(b"GET /livez HTTP/1.0\r\nX: ")
    for _ in range(5):
        assert pole.street.get("/livez")[0] == 200
    assert pole.street.get("/api/v1/status", cookie)[0] == 200
    for client in (*clients, dripping):
        client.close()
    until(lambda: threading.active_count() <= threads)


def test_a_hundred_viewers_are_four_and_the_others_hear_why(
    pole: SecureStreet, capfd: pytest.CaptureFixture
) -> None:
    """Each has an answer; what else is asked for comes; afterwards nothing is left, nor a word in the log."""
    host, _, port = pole.street.address.rpartition(":")
    hub, threads, answers = pole.street.daemon.live_view.hub, threading.active_count(), []
    request = f"GET /live.mjpg HTTP/1.0\r\nCookie: {pole.session['Cookie']}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(100):
            client = socket.create_connection((host, int(port)), PATIENCE_S)
            viewer = stack.enter_context(pole.street.context.wrap_socket(client, server_hostname=host))
            viewer.sendall(request)
            answers.append(viewer.recv(12))
        assert answers.count(b"HTTP/1.0 200") == hub.viewers == MAX_VIEWERS
        assert answers.count(b"HTTP/1.0 503") == 100 - MAX_VIEWERS
        assert pole.street.get("/livez")[0] == 200
        assert pole.street.get("/api/v1/status", pole.session)[0] == 200
    until(lambda: not hub.viewers and threading.active_count() <= threads)
    assert "Traceback" not in capfd.readouterr().err


def test_a_viewer_who_hardly_reads_is_cut_off(pole: SecureStreet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is not reading: its place is free again, and nobody has waited for it."""
    monkeypatch.setattr(Handler, "timeout", 0.5)
    monkeypatch.setattr(places, "STREAM_BUFFER_BYTES", 4096)
    hub = pole.street.daemon.live_view.hub
    host, _, port = pole.street.address.rpartition(":")
    client = socket.create_connection((host, int(port)), PATIENCE_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    with pole.street.context.wrap_socket(client, server_hostname=host) as slow:
        slow.sendall(f"GET /live.mjpg HTTP/1.0\r\nCookie: {pole.session['Cookie']}\r\n\r\n".encode())
        assert slow.recv(1) == b"H"
        assert hub.viewers == 1

        def reads_a_byte() -> bool:
            with suppress(OSError):
                slow.recv(1)
            return not hub.viewers

        until(reads_a_byte)
