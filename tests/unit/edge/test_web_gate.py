"""The gate of the pages: how long a session holds, and how often a wrong token is looked at."""

from pathlib import Path

from spillover.common.security.tokens import Tokens, add_token
from spillover.edge.web.gate import (
    ADDRESSES,
    SESSION_S,
    WRONG_EVERY_S,
    WRONG_TOKENS,
    Gate,
    Sees,
    WrongTokens,
)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def test_wrong_tokens_are_forgiven_one_by_one() -> None:
    """So many at once, then one in a while; another address, and another's network, are not affected."""
    clock = Clock()
    wrong = WrongTokens(clock)
    for _ in range(WRONG_TOKENS):
        assert wrong.wait_s("2001:db8::1") == 0
        wrong.note("2001:db8::1")
    assert 0 < wrong.wait_s("2001:db8::1") <= WRONG_EVERY_S
    assert wrong.wait_s("2001:db8::ffff") > 0  # the same network, whose addresses are all one user's
    assert wrong.wait_s("2001:db8:0:1::1") == wrong.wait_s("192.0.2.7") == 0
    clock.now_s += WRONG_EVERY_S
    assert wrong.wait_s("2001:db8::1") == 0
    wrong.note("2001:db8::1")
    assert wrong.wait_s("2001:db8::1") > 0
    clock.now_s += WRONG_TOKENS * WRONG_EVERY_S
    assert wrong.wait_s("2001:db8::1") == 0


def test_the_table_of_wrong_tokens_does_not_grow() -> None:
    """Many addresses push out the one that was wrong longest ago, and no newer one."""
    wrong = WrongTokens(Clock())
    for number in range(10 * ADDRESSES):
        for _ in range(WRONG_TOKENS):
            wrong.note(f"10.0.{number // 256}.{number % 256}")
    assert len(wrong._clear_s) == ADDRESSES
    assert wrong.wait_s("10.0.0.0") == 0
    assert wrong.wait_s("10.0.9.255") > 0


def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    """After half a day, by a clock that nobody sets; a daemon that was started again knows none of before."""
    clock, file, causes = Clock(), tmp_path / "tokens.yaml", []
    token = add_token(file, "ladder", "viewer", None)

    def status(gate: Gate, cookie: str) -> str:
        told: list[str] = []
        app = gate.guarded(lambda _, start: start("200 OK", []) or [b""], Sees.PICTURES)
        environ = {"PATH_INFO": "/events", "REQUEST_METHOD": "GET", "spillover.proven": lambda: None}
        b"".join(app(environ | {"HTTP_COOKIE": cookie}, lambda line, _: told.append(line)))
        return told[0][:3]

    gate = Gate(Tokens(file), causes.append, secure=True, clock=clock)
    cookie = gate.log_in("192.0.2.7", token)[1].partition(";")[0]
    assert status(gate, cookie) == "200"
    clock.now_s += SESSION_S - 1
    assert status(gate, cookie) == "200"
    clock.now_s += 1
    assert status(gate, cookie) == "401"
    assert status(Gate(Tokens(file), causes.append, secure=True, clock=clock), cookie) == "401"
    assert causes == ["unauthenticated"] * 2
