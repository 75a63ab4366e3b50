"""The checker: a run that keeps its promises passes, and every way to break one is found."""

import json

import pytest
from click.testing import CliRunner

from spillover.edge.spool.arena import Arena
from spillover.lab.runs.check.cli import ViolationsFoundError, check
from spillover.lab.runs.check.frame_accounting import FrameAccounting


def _started(boot="b"):
    return json.dumps({"event": "started", "at_unix_s": 1.0, "boot_id": boot}, separators=(",", ":")).encode()


def _event(kind, **fields):
    return json.dumps({"event": kind, "at_unix_s": 1.0, **fields}, separators=(",", ":")).encode()


def _result(number, answered_by="edge", revision=0, boot="b", reused_from=""):
    return json.dumps(
        {
            "frame_id": f"my-cam-{boot}-{number}",
            "sequence": number,
            "answered_by": answered_by,
            "revision": revision,
            "reused_from": reused_from,
        }
    ).encode()


def _verdict(*lines, on_disk=None):
    frames = FrameAccounting()
    frames.add(lines)
    return frames.report(on_disk=on_disk)


GOOD = (
    _started(),
    _result(0),
    _result(1, "edge_degraded"),
    _event("dropped", frame_id="my-cam-b-2", sequence=2, reason="queue full"),
    _event("spool", frame_id="my-cam-b-1", fate="accepted"),
    _result(3, "cloud"),
    _result(4, reused_from="my-cam-b-3"),
    _result(1, "cloud", 1),
    _event("spool", frame_id="my-cam-b-1", fate="answered"),
    _event("stopped", boot_id="b", captured=5),
)


END_OF_ONE = _event("stopped", boot_id="b", captured=1)


def test_a_good_run_balances():
    """One ending a frame, a late answer, a drop: no violation, and the counts are right."""
    verdict = _verdict(*GOOD, on_disk=())
    assert verdict.violations == ()
    assert verdict.endings == {"edge": 2, "edge_degraded": 1, "dropped": 1, "cloud": 1}
    assert (verdict.frames, verdict.revisions, verdict.accepted) == (5, 1, 1)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ((*GOOD[:-1], _event("stopped", boot_id="b", captured=6)), "no ending"),
        ((*GOOD[:-1], _event("stopped", boot_id="b", captured=4)), "beyond"),
        ((_started(), _result(0, reused_from="my-cam-b-0"), END_OF_ONE), "no earlier frame"),
        ((_started(), _result(0, reused_from="my-cam-a-0"), END_OF_ONE), "no earlier frame"),
        ((*GOOD, _result(0)), "2 endings"),
        ((*GOOD, _event("dropped", frame_id="my-cam-b-0", reason="x")), "2 endings"),
        ((*GOOD, _result(1, "cloud", 1)), "twice"),
        ((*GOOD, _result(0, "edge", 1)), "by edge"),
        ((*GOOD, _result(9, "cloud", 1)), "without a first"),
        ((*GOOD, _event("spool", frame_id="my-cam-b-0", fate="accepted")), "lost"),
        ((*GOOD, _event("spool", frame_id="my-cam-b-0", fate="answered")), "no revision"),
        ((*GOOD, b'{"frame_id": "my-cam-b-'), "cannot be read"),
    ],
)
def test_every_broken_promise_is_found(lines, word):
    """Missing, doubled, contradicting or lost: each is a violation that says what it is."""
    [violation] = _verdict(*lines, on_disk=()).violations
    assert word in violation


def test_a_killed_run_may_miss_its_last_frames_only():
    """Without `stopped` the tail may be missing; a hole further back may not."""
    lines = [_started(), *(_result(n) for n in range(200) if n not in {150, 199})]
    assert _verdict(*lines).violations == ()
    assert _verdict(*lines).missing_at_kill == 1
    [violation] = _verdict(*(line for line in lines if line != _result(100))).violations
    assert "[100]" in violation


def test_a_revision_may_be_repeated_after_a_restart():
    """Delivery is at least once: after a kill the same late answer may come again."""
    killed = GOOD[:-2]
    again = (_started("c"), _result(1, "cloud", 1), _event("stopped", boot_id="c", captured=0))
    verdict = _verdict(*killed, *again)
    assert (verdict.violations, verdict.repeated_revisions) == ((), 1)


def test_the_command_fails_when_the_books_do_not_balance(tmp_path):
    """It names the violations, writes the verdict, and fails."""
    (tmp_path / "run.jsonl").write_bytes(b"\n".join([*GOOD, _result(0)]))
    arguments = [str(tmp_path / "run.jsonl"), "--json", str(tmp_path / "verdict.json")]
    run = CliRunner().invoke(check, arguments)
    assert isinstance(run.exception, ViolationsFoundError)
    assert "VIOLATION" in run.output
    assert json.loads((tmp_path / "verdict.json").read_text())["violations"]


@pytest.mark.parametrize(("waits", "fails"), [("my-cam-b-0", False), ("my-cam-b-3", True)])
def test_the_command_looks_for_accepted_frames_in_the_spool(tmp_path, waits, fails):
    """What was accepted and has no end is on the disk, or it was lost."""
    accepted = _event("spool", frame_id="my-cam-b-0", fate="accepted")
    (tmp_path / "run.jsonl").write_bytes(b"\n".join([*GOOD[:-1], accepted, GOOD[-1]]))
    arena = Arena(tmp_path / "spool.dat", 1 << 20)
    arena.put(1.0, 0.0, waits.encode(), b"a frame")
    arena.close()
    run = CliRunner().invoke(check, [str(tmp_path / "run.jsonl"), "--spool", str(tmp_path / "spool.dat")])
    assert isinstance(run.exception, ViolationsFoundError) is fails, run.output
    assert ("my-cam-b-0: accepted by the spool, and lost" in run.output) is fails


def test_a_run_that_was_killed_in_its_first_line_is_no_violation():
    """The sink ends the torn line and the next run begins behind it; at the end of a file it stands open."""
    torn = _started("a")[:20]
    assert not _verdict(torn, *GOOD).violations
    assert not _verdict(*GOOD, torn).violations
    assert not _verdict(b'{"ev\n', *GOOD).violations
    assert _verdict(torn, *GOOD).torn_lines == 1


def test_a_line_that_cannot_be_read_amid_a_run_is_one():
    """A run that ended cleanly has torn nothing."""
    assert _verdict(*GOOD[:2], b"{half", *GOOD[2:]).violations


def test_lines_that_begin_in_the_middle_of_a_run_are_checked_from_there():
    """Older files were rotated away: what is missing before is said, what is missing later is a violation."""
    whole = [
        _started(),
        *(_result(number) for number in range(300)),
        _event("stopped", boot_id="b", captured=300),
    ]
    verdict = _verdict(*whole[101:])
    assert verdict.violations == ()
    assert (verdict.frames, verdict.before) == (200, 100)
    del whole[250]
    [violation] = _verdict(*whole[101:]).violations
    assert "no ending: [249]" in violation
    late = (_result(50, "cloud", 1), _event("spool", frame_id="my-cam-b-50", fate="answered"))
    assert _verdict(*whole[101:200], *late).violations == ()
