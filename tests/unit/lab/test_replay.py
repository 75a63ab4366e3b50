"""Replay: traces carry what they say, the simulation keeps its books, the link-aware policy is on time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ConfigError, SourceError
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Decision, Detections
from spillover.edge.config import BudgetConfig, Mode, PayloadKind, PictureVariant
from spillover.edge.inference.scene import Surroundings
from spillover.edge.link.byte_budget import Tokens
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.payload_costs import PayloadCostModel, picture_forms
from spillover.edge.link.state import BreakerPhase, LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import Context, Reason
from spillover.edge.policy.guard import first_obstacle
from spillover.edge.policy.share import FixedThreshold
from spillover.lab.loadtest.simulated.fleet import policy_of_wanted_frames
from spillover.lab.pairs.replay.cli import replay
from spillover.lab.pairs.replay.compare import Choice, compare
from spillover.lab.pairs.replay.remake import follows, made_again
from spillover.lab.pairs.replay.simulate import LinkAware, Naive, ReplayFrame, Setting, simulate
from spillover.lab.pairs.replay.trace import MODELS, LinkTrace, Step, model_trace, read_trace
from spillover.lab.records import read_records
from tests.support.edge_values import detections
from tests.support.policies import decide, policy_of


def frames(count: int = 3000, seed: int = 0) -> list[ReplayFrame]:
    """Ten frames a second with random gain and size."""
    random = np.random.default_rng(seed)
    return [
        ReplayFrame(n / 10, float(random.exponential(0.2)), float(random.uniform(20e3, 60e3)))
        for n in range(count)
    ]


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 1e5)), min_size=1, max_size=6),
    st.floats(0, 30),
    st.floats(0, 2e5),
)
def test_a_transfer_takes_until_its_bytes_are_through(
    lines: list[tuple[float, float]], start_s: float, size: float
) -> None:
    """What the link carries between start and finish is the payload."""
    at, steps = 0.0, []
    for duration_s, rate in [*lines, (1.0, 1e4)]:
        steps.append(Step(at, rate, 0.0))
        at += duration_s
    trace = LinkTrace("t", [*steps, Step(at, 0.0, 0.0)])
    finish_s = trace.finish_s(start_s, size)
    assert finish_s >= start_s
    grid = np.linspace(start_s, finish_s, 4001)
    middles = (grid[:-1] + grid[1:]) / 2
    carried = sum(trace.at(float(t)).rate_bytes_per_s for t in middles) * (finish_s - start_s) / 4000
    largest = max(rate for _, rate in lines)
    jumps = 2 + 8 * (1 + (finish_s - start_s) / trace.duration_s)
    assert carried == pytest.approx(size, abs=1 + jumps * max(largest, 1e4) * (finish_s - start_s) / 4000)


def test_a_trace_is_read_line_by_line(tmp_path: Path) -> None:
    """A line holds until the next; the last one says where the trace ends."""
    (tmp_path / "link.csv").write_text("at_s,rate_bytes_per_s,rtt_s\n0,1e6,0.05\n2.5,0,0.05\n4,1e6,0.05\n")
    trace = read_trace(tmp_path / "link.csv")
    assert (trace.name, trace.duration_s) == ("link.csv", 4)  # not that of a modelled link
    assert [trace.at(at).rate_bytes_per_s for at in (0, 2.4, 2.5, 3.9, 4.1)] == [1e6, 1e6, 0, 0, 1e6]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("at_s,rate_bytes_per_s,rtt_s\n0,1,0.1\n", "two lines"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,1,0.1\n0,1,0.1\n", "rising"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,1,x\n1,1,0.1\n", "line 2"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,0,0.1\n1,1,0.1\n", "carries nothing|never carries"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,-1,0.1\n1,1,0.1\n", "below 0"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,inf,0.1\n1,1,0.1\n", "not finite"),
        ("at_s,rate_bytes_per_s,rtt_s\n0,1,nan\n1,1,0.1\n", "not finite"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """The error says what is wrong, and a replay never hangs."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SourceError, match=named):
        read_trace(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["constant", "lte", "wifi", "outage"])
def test_what_the_link_aware_policy_sends_is_on_time(name: str) -> None:
    """95 of 100 at the least, and no less than by threshold alone."""
    setting, trace = Setting(deadline_s=0.5), model_trace(name)
    naive = simulate(frames(6000), Naive(FixedThreshold(0.25)), trace, setting)
    aware = simulate(frames(6000), LinkAware(setting, FixedThreshold(0.25)), trace, setting)
    assert aware.on_time_share >= 0.95
    assert aware.on_time_share >= naive.on_time_share - 0.005
    assert aware.sent > 0.4 * naive.sent


def test_a_hopeless_link_is_left_alone() -> None:
    """Where no answer can be in time, only rare probes leave."""
    setting = Setting(deadline_s=0.5)
    outcome = simulate(
        frames(6000), LinkAware(setting, FixedThreshold(0.25)), model_trace("satellite"), setting
    )
    assert outcome.sent < 60


@pytest.mark.parametrize("name", list(MODELS))
def test_no_period_exceeds_the_budget(name: str) -> None:
    """Under a budget of a tenth of what is offered, no sliding minute sends a byte more."""
    rows = compare(
        frames(), [model_trace(name)], Setting(), Choice(threshold=0.25), budget_bytes=2.4e6, period_s=60
    )
    by_policy = {row.policy: row for row in rows}
    assert by_policy["link-aware"].over_budget_bytes == 0
    assert name != "constant" or by_policy["score alone"].over_budget_bytes > 0


LINE = (
    '{"frame_id":"f-%d","camera_id":"c","sequence":%d,"source":"","captured_unix_s":%f,"answered_by":"edge",'
    '"revision":0,"model":{"name":"m","version":"1"},"classes":[{"class_id":0,"probability":0.9}],"boxes":null,"timings":{},'
    '"payload_bytes":%d,"decision":{"action":"keep","reason":"confident","expected_gain":%f},"error":""}'
)


def test_the_command_plays_a_log(tmp_path: Path) -> None:
    """JSON lines of the edge in, a table and figures out; events between the results do no harm."""
    log, out = tmp_path / "r.jsonl", tmp_path / "o.json"
    lines = [LINE % (n, n, 1e9 + n / 10, 30_000 * (n % 2), n % 10 / 10) for n in range(200)]
    log.write_text("\n".join(['{"event":"started","at_unix_s":1.0}', *lines]) + "\n")
    done = CliRunner().invoke(
        replay, ["--log", str(log), "--link", "constant", "--json", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "link-aware" in done.output
    assert '"on_time_share": 1.0' in out.read_text()


def test_a_log_of_short_decisions_says_what_is_missing(tmp_path: Path) -> None:
    """It is played all the same; what cannot be done is said, with the key that keeps the numbers."""
    log = tmp_path / "r.jsonl"
    log.write_text("\n".join(LINE % (n, n, 1e9 + n / 10, 30_000, n % 10 / 10) for n in range(20)) + "\n")
    command = ["--log", str(log), "--link", "constant"]
    assert "cannot be made again" not in CliRunner().invoke(replay, command, catch_exceptions=False).output
    log.write_text(log.read_text().replace('"action":"keep"', '"action":"keep","score":0.5'))
    done = CliRunner().invoke(replay, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "20 decisions have no inputs and cannot be made again" in done.output
    assert "`decision: full`" in done.output


def test_a_link_that_takes_forever_holds_up_no_replay() -> None:
    """What it would carry in decades never arrives; the frames are counted as late."""
    trace = LinkTrace("t", [Step(0.0, 1e-300, 0.1), Step(5.0, 0.0, 0.1)])
    assert trace.finish_s(0.0, 1000.0) == np.inf
    outcome = simulate(frames(20), Naive(FixedThreshold(0.0)), trace, Setting())
    assert outcome.sent > 0
    assert outcome.on_time_share == 0


def test_frames_are_scored_by_another_policy(tmp_path: Path) -> None:
    """Of an edge_only log, which has no gains, max_softmax sends the doubtful half; else it is refused."""
    log, out = tmp_path / "r.jsonl", tmp_path / "o.json"
    lines = []
    for n in range(40):
        line = json.loads(LINE % (n, n, 1e9 + n, 30_000, 0.0))
        line["classes"] = [{"class_id": 0, "probability": 0.9 if n % 2 else 0.4}]
        lines.append(json.dumps(line))
    log.write_text("\n".join(lines) + "\n")
    command = ["--log", str(log), "--link", "constant", "--json", str(out)]
    with pytest.raises(SourceError, match="give --policy"):
        CliRunner().invoke(replay, command, catch_exceptions=False)
    CliRunner().invoke(
        replay, [*command, "--policy", "max_softmax", "--threshold", "0.5"], catch_exceptions=False
    )
    assert [row["sent"] for row in json.loads(out.read_text())["links"]] == [20, 20]


@pytest.mark.parametrize(
    ("policy", "named"), [("near_threshold", "for detection"), ("luck", "neither one of")]
)
def test_a_policy_that_cannot_score_the_log_is_refused(tmp_path: Path, policy: str, named: str) -> None:
    """One of the other task, or none at all."""
    log = tmp_path / "r.jsonl"
    log.write_text(LINE % (0, 0, 1e9, 30_000, 0.5) + "\n")
    with pytest.raises(ConfigError, match=named):
        CliRunner().invoke(replay, ["--log", str(log), "--policy", policy], catch_exceptions=False)


def test_what_the_edge_said_of_a_sent_frame_comes_from_another_log(tmp_path: Path) -> None:
    """Its own record holds the cloud's answer; without the other log the frame is named."""
    line = json.loads(LINE % (7, 7, 1e9, 30_000, 0.5)) | {"source": "a.png"}
    line["classes"] = [{"class_id": 0, "probability": 0.4}]
    (tmp_path / "edge.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "cloud.jsonl").write_text(json.dumps(line | {"answered_by": "cloud"}) + "\n")
    command = ["--log", str(tmp_path / "cloud.jsonl"), "--policy", "max_softmax", "--link", "constant"]
    with pytest.raises(SourceError, match="frame f-7"):
        CliRunner().invoke(replay, command, catch_exceptions=False)
    command += ["--answers", str(tmp_path / "edge.jsonl")]
    assert CliRunner().invoke(replay, command, catch_exceptions=False).exit_code == 0


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    """A power cut in the middle of a line loses that line; one in the middle of the file is named."""
    log, whole = tmp_path / "r.jsonl", LINE % (0, 0, 1e9, 30_000, 0.5) + "\n"
    log.write_text(whole + whole[:50])
    assert len(read_records(log)) == 1
    log.write_text(whole[:50] + "\n" + whole)
    with pytest.raises(SourceError, match="line 1"):
        read_records(log)


@st.composite
def links(draw: st.DrawFn) -> LinkState:
    """Any state of the link, with some forms to choose from."""
    forms = st.tuples(st.floats(100, 90_000), st.floats(0.01, 1), st.sampled_from([0.5, 0.8, 0.99, 1.0]))
    actions = st.sampled_from([Action.SEND_FRAME, Action.SEND_FEATURES])
    options = tuple(
        PayloadOption(
            f"form-{n}", action, *form, 0.01, 0.02, measured=known, extra_bytes=form[0] * 0.9 * due, due=due
        )
        for n, (form, action, known, due) in enumerate(
            draw(st.lists(st.tuples(forms, actions, st.booleans(), st.booleans()), max_size=3))
        )
    )
    return LinkState(
        in_flight=draw(st.integers(0, 4)),
        max_in_flight=4,
        pushback_left_s=draw(st.sampled_from([0.0, 0.3])),
        breaker=draw(st.sampled_from(BreakerPhase)),
        breaker_allows=draw(st.booleans()),
        view=LinkView(options=options, may_probe=draw(st.booleans())),
        tokens=Tokens(draw(st.floats(0, 60_000)), 60_000, 100.0),
    )


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    """Everything that a policy may know of a frame's moment."""
    moved = draw(st.floats(0, 1))
    return Context(
        time_left_s=draw(st.floats(-0.1, 1)),
        link=draw(links()),
        surroundings=Surroundings(motion=moved, lost_track=moved > 0.5),
        since_last_offload_s=draw(st.sampled_from([0.1, 50.0])),
    )


@given(
    confidence=st.lists(st.floats(0.01, 1), max_size=4),
    context=contexts(),
    draw=st.floats(0, 1, exclude_max=True),
    mode=st.sampled_from([Mode.HYBRID, Mode.CLOUD_ONLY]),
    spool_from=st.sampled_from([None, 0.2]),
)
def test_every_decision_follows_from_its_record(
    confidence: list[float], context: Context, draw: float, mode: Mode, spool_from: float | None
) -> None:
    """Of detectors with every rule switched on, whatever the link; another decision would not follow."""
    policy = policy_of(
        mode,
        DETECTION,
        draw,
        spool_from=spool_from,
        refresh_s=10.0,
        threshold=0.4,
        budget=BudgetConfig(bytes=600_000),
        audit_share=0.1,
    )
    found = np.sort(np.array(confidence, np.float32))[::-1]
    boxes = Detections(np.zeros((len(found), 4), np.float32), found, np.zeros(len(found), np.int32))
    decision = decide(policy, boxes, context)
    logged = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert follows(logged)
    assert not follows(replace(logged, reason=Reason.MODE if mode is Mode.HYBRID else Reason.SCORE))
    other = Action.SEND_FRAME if decision.action in {Action.KEEP, Action.SPOOL} else Action.KEEP
    assert not follows(replace(logged, action=other))
    assert not follows(replace(logged, degraded=not logged.degraded))


@given(counts=st.lists(st.integers(0, 3), min_size=30, max_size=120), share=st.floats(0.05, 0.9))
def test_decisions_by_a_share_follow_from_their_records(counts: list[int], share: float) -> None:
    """The threshold in force and the credit of ties are logged: each follows without the frames before."""
    policy = policy_of(task=DETECTION, draw=0.5, send_share=share)
    free = Context(0.4, LinkState(max_in_flight=4))
    for count in counts:
        decision = decide(policy, detections(*[0.5] * count), free)
        logged = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
        assert follows(logged)
        if logged.score is not None:
            other = Action.SEND_FRAME if decision.action is Action.KEEP else Action.KEEP
            assert not follows(replace(logged, action=other))


def test_a_second_log_is_refused(tmp_path: Path) -> None:
    """The first of two would be dropped in silence."""
    log = tmp_path / "r.jsonl"
    log.write_text("")
    refused = CliRunner().invoke(replay, ["--log", str(log), "--log", str(log)])
    assert "only one log is played; --answers" in refused.output


def test_a_share_plays_a_log_as_the_daemon_would(tmp_path: Path) -> None:
    """Gains of another unit, a share of a quarter: a quarter is sent; a share and a threshold are refused."""
    log, out = tmp_path / "r.jsonl", tmp_path / "o.json"
    lines = [LINE % (n, n, 1e9 + n, 30_000, 100 + n * 37 % 50) for n in range(400)]
    log.write_text("\n".join(lines) + "\n")
    command = ["--log", str(log), "--link", "constant", "--json", str(out), "--send-share", "0.25"]
    CliRunner().invoke(replay, command, catch_exceptions=False)
    assert [row["sent"] / 400 for row in json.loads(out.read_text())["links"]] == [
        pytest.approx(0.25, rel=0.1)
    ] * 2
    refused = CliRunner().invoke(replay, [*command, "--threshold", "1"])
    assert "keep one" in refused.output


@given(link=links(), left_s=st.floats(-0.1, 1), forecast=st.booleans())
def test_daemon_simulated_edge_and_replay_hold_back_the_same_frames(
    link: LinkState, left_s: float, *, forecast: bool
) -> None:
    """A frame that is wanted: the same action for the same reason in any state of the link.

    Without the forecast it waits for cap, deadline and pushback alone.
    """
    context = Context(left_s, replace(link, view=replace(link.view, options=()), tokens=Tokens()))
    daemon = policy_of(Mode.CLOUD_ONLY, forecast=forecast).decide(context)
    simulated = policy_of_wanted_frames(forecast=forecast).decide(context)
    replayed = made_again(daemon)
    assert (daemon.action, daemon.reason) == (simulated.action, simulated.reason)
    assert (daemon.action, daemon.reason) == (replayed.action, replayed.reason)
    assert daemon.degraded == (first_obstacle(daemon, context, forecast=forecast) is not None)
    if not forecast:
        may_leave = left_s > 0 and not link.pushback_left_s and link.in_flight < link.max_in_flight
        assert (daemon.action is Action.SEND_FRAME) == may_leave


@given(
    link=links(),
    calls=st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 1), st.booleans()), max_size=8),
    under_way=st.integers(0, 3),
    queue_s=st.sampled_from([0.0, 0.01]),
)
def test_a_predicted_latency_follows_from_its_parts(
    link: LinkState, calls: list[tuple[float, float, bool]], under_way: int, queue_s: float
) -> None:
    """Encoding, bytes, link, server and margin, as they are logged, give what was predicted of each form."""
    now_s = 0.0
    variants = [PictureVariant(60, 320)]
    book = PayloadCostModel(
        picture_forms(PictureVariant(85), variants), PayloadKind.PICTURE, clock=lambda: now_s
    )
    for network_s, server_s, in_time in calls:
        book.made("picture", 40_000, 0.007)
        upload = book.departed("picture", 40_000, 1.0)
        now_s += network_s + server_s
        book.answered("picture", upload, network_s, server_s, in_time=in_time)
    for _ in range(under_way):
        book.departed("picture", 40_000, 1.0)
    told = replace(link, view=book.view(queue_s, in_flight=under_way + 1))
    inputs = policy_of(Mode.CLOUD_ONLY).decide(Context(1.0, told)).inputs
    estimate = LinkEstimate(*(inputs[name] for name in _ESTIMATE))
    for option in told.view.options:
        parts = (inputs[f"{part}.{option.name}"] for part in ("payload_bytes", "encode_s", "server_s"))
        assert estimate.latency_s(*parts) == inputs[f"latency_s.{option.name}"] == option.latency_s


_ESTIMATE = ("rtt_s", "rate_bytes_per_s", "deviation_s", "server_queue_s", "backlog_s", "deviations")


def test_with_labels_the_accuracy_is_true(tmp_path: Path) -> None:
    """Edge right on half of the pictures, cloud on all: over a good link the accuracy is what was sent."""
    (tmp_path / "pictures").mkdir()
    for n in range(20):
        cv2.imwrite(str(tmp_path / "pictures" / f"{n}.png"), np.zeros((4, 4, 3), np.uint8))
    rows = [f"{n}.png,{n % 3}" for n in range(20)]
    (tmp_path / "pictures" / "labels.csv").write_text("\n".join(["file,class_index", *rows]) + "\n")

    def lines(by: str, says: Callable[[int], int], gain: Callable[[int], float]) -> str:
        text = ""
        for n in range(20):
            line = json.loads(LINE % (n, n, 1e9 + n, 30_000, gain(n)))
            line |= {"source": f"{n}.png", "answered_by": by}
            line["classes"] = [{"class_id": says(n), "probability": 0.9}]
            text += json.dumps(line) + "\n"
        return text

    # Wrong from picture 10 on; of those the last five have the gain to be sent.
    edge = lines("edge", lambda n: n % 3 if n < 10 else 7, lambda n: float(n >= 15))
    (tmp_path / "edge.jsonl").write_text(edge)
    (tmp_path / "cloud.jsonl").write_text(lines("cloud", lambda n: n % 3, lambda n: 0.0))
    command = ["--log", tmp_path / "edge.jsonl", "--answers", tmp_path / "cloud.jsonl", "--link", "constant"]
    command += ["--data", tmp_path / "pictures", "--json", tmp_path / "o.json", "--threshold", "0.5"]
    done = CliRunner().invoke(replay, [str(word) for word in command], catch_exceptions=False)
    assert done.exit_code == 0
    assert [row["accuracy"] for row in json.loads((tmp_path / "o.json").read_text())["links"]] == [0.75, 0.75]
    assert "0.5000 edge alone, 1.0000 cloud alone" in " ".join(done.output.split())
