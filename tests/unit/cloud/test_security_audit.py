"""The audit trail: what it says, that it cannot be forged or flooded, and how the commands write it."""

import getpass
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spillover.cloud.security.audit import Actor, Refusals, audit
from spillover.cloud.security.cli import certs, tokens
from spillover.common.errors import Cause, ConfigError
from spillover.common.log import printable
from spillover.common.security.trail import TRAIL, audit_command

ALICE = Actor("alice", "operator", "ipv4:192.0.2.7:1234")
HOSTILE = 'x\n{"action": "load"}\r\x1b[2J\u2028\u202e\x85'


class Loop:
    """An event loop's clock and its `call_later`, moved by hand."""

    def __init__(self):
        self.now_s = 0.0
        self._due = []

    def later(self, delay_s, work):
        """Note work for later."""
        self._due.append((self.now_s + delay_s, work))

    def clock(self):
        """The time."""
        return self.now_s

    def move_to(self, now_s):
        """Let time pass and do what is due."""
        self.now_s = now_s
        due, self._due = [w for at, w in self._due if at <= now_s], [d for d in self._due if d[0] > now_s]
        for work in due:
            work()


def run(command, *words):
    """One command, which must end well."""
    result = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def trail(folder):
    """The lines of a folder's trail."""
    return [json.loads(line) for line in (folder / TRAIL).read_text().splitlines()]


def test_every_action_on_certificates_is_recorded(tmp_path):
    """Made, issued, renewed, revoked: with name, serial number and Unix user; for its owner alone."""
    pki = tmp_path / "pki"
    run(certs, "init", "--folder", pki)
    run(certs, "issue", "camera-1", "--folder", pki)
    first = x509.load_pem_x509_certificate((pki / "camera-1.crt").read_bytes()).serial_number
    run(certs, "renew", "camera-1", "--folder", pki)
    second = x509.load_pem_x509_certificate((pki / "camera-1.crt").read_bytes()).serial_number
    run(certs, "list", "--folder", pki)
    run(certs, "revoke", "camera-1", "--folder", pki)
    lines = trail(pki)
    assert {line["user"] for line in lines} == {pwd.getpwuid(os.getuid()).pw_name}
    assert [(line["action"], line["name"], line.get("serial")) for line in lines[:3]] == [
        ("certs init", "Spillover CA", None),
        ("certs issue", "camera-1", f"{first:x}"),
        ("certs renew", "camera-1", f"{second:x}"),
    ]
    assert {line["serial"] for line in lines[3:]} == {f"{first:x}", f"{second:x}"}
    assert {line["action"] for line in lines[3:]} == {"certs revoke"}
    assert stat.S_IMODE((pki / TRAIL).stat().st_mode) == 0o600


def test_every_action_on_tokens_is_recorded_without_the_secret(tmp_path):
    """Added and revoked, beside the file of tokens."""
    path = tmp_path / "tokens.yaml"
    token = run(tokens, "add", "camera-1", "--file", path).output.strip()
    run(tokens, "revoke", "camera-1", "--file", path)
    assert [(line["action"], line["name"]) for line in trail(tmp_path)] == [
        ("tokens add", "camera-1"),
        ("tokens revoke", "camera-1"),
    ]
    assert token.partition("~")[2] not in (tmp_path / TRAIL).read_text()


def test_the_environment_cannot_say_who_it_was(tmp_path, monkeypatch):
    """The user is known by the process; who stands behind sudo is noted beside it, escaped."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("SUDO_USER", HOSTILE)
    assert getpass.getuser() == "somebody-else"
    audit_command(tmp_path, "test", name=HOSTILE)
    text = (tmp_path / TRAIL).read_text()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert trail(tmp_path)[0]["user"] == pwd.getpwuid(os.getuid()).pw_name


def test_what_was_recorded_stays(tmp_path):
    """Lines are appended to what is there, and never through a link to another file."""
    (tmp_path / TRAIL).write_text("before\n")
    audit_command(tmp_path, "test")
    assert (tmp_path / TRAIL).read_text().startswith("before\n{")
    other = tmp_path / "other"
    other.mkdir()
    (other / TRAIL).symlink_to(tmp_path / TRAIL)
    with pytest.raises(ConfigError, match=r"is done, and .* cannot be written"):
        audit_command(other, "test")


@given(st.text(max_size=300))
def test_what_others_wrote_stays_in_one_line(text):
    """Escaped text has no character that moves a cursor or ends a line, and text of such is not changed."""
    assert printable(text).isprintable()
    assert printable(text, 100) == text or not text.isprintable() or len(text) > 100


@pytest.mark.parametrize("as_json", [True, False])
def test_the_servers_trail_is_one_line_whatever_the_level(as_json):
    """With the least of logs, in both formats."""
    program = (
        "from spillover.common.log import configure_logging, get_logger;"
        "from spillover.cloud.security.audit import Actor, audit;"
        f"configure_logging('error', as_json={as_json});"
        "get_logger('server').info('not wanted');"
        f"audit('load', Actor({HOSTILE!r}), model={HOSTILE!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=Path(__file__).parents[3]
    )
    text = done.stderr.decode()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert "load" in text
    assert "not wanted" not in text


def test_a_line_has_a_bound():
    """A caller's name may be long, its line is not."""
    with capture_logs() as log:
        audit("load", Actor("x" * 10_000), model="m" * 10_000)
    assert [len(log[0][key]) for key in ("by", "model")] == [200, 200]


def test_a_flood_of_refusals_is_twenty_lines_and_a_count():
    """Each refusal is in one line or in the count of one; another cause has lines of its own."""
    loop = Loop()
    refusals = Refusals(loop.later, loop.clock)
    with capture_logs() as log:
        for number in range(1000):
            refusals.add(
                Cause.UNAUTHENTICATED, Actor("", "", f"ipv4:192.0.2.7:{number}"), "Infer", "no token"
            )
        refusals.add(Cause.FORBIDDEN, ALICE, "Infer", "not allowed")
        assert [line["count"] for line in log] == [1] * 21
        assert log[-1] == {
            "component": "audit", "log_level": "info", "event": "refused", "by": "alice", "role": "operator",
            "peer": ALICE.peer, "cause": "forbidden", "method": "Infer", "because": "not allowed", "count": 1,
        }  # fmt: skip
        loop.move_to(60.0)
        assert [(line["count"], line["peer"]) for line in log[21:]] == [(980, "ipv4:192.0.2.7:999")]
        refusals.add(Cause.UNAUTHENTICATED, ALICE, "Infer", "no token")
        assert log[-1]["count"] == 1
    assert sum(line["count"] for line in log) == 1002


def test_what_is_only_counted_is_written_at_the_end():
    """A server that stops owes no line."""
    loop = Loop()
    refusals = Refusals(loop.later, loop.clock)
    with capture_logs() as log:
        for _ in range(50):
            refusals.add(Cause.FORBIDDEN, ALICE, "Infer", "not allowed")
        refusals.close()
        loop.move_to(100.0)
    assert [line["count"] for line in log] == [1] * 20 + [30]
