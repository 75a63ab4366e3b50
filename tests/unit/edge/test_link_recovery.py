"""After trouble the edge sends again: its policy, link estimate, cap and breaker on a simulated clock."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spillover.edge.policy.share import FixedThreshold
from spillover.lab.pairs.replay.simulate import LinkAware, ReplayFrame, Setting, SimulatedCall, Simulation
from spillover.lab.pairs.replay.trace import LinkTrace, Step

FRAMES_PER_S = 8
RATE = 2e6
RECOVERED_S = 5.0
"""The promise: so long after the first probe in time, every frame is sent again."""
AS_BEFORE = Setting(deadline_s=0.5)


class Camera:
    """A camera that offers each frame to one edge over one link, whose future may be added to."""

    def __init__(self, setting: Setting = AS_BEFORE) -> None:
        self.steps = [Step(0.0, RATE, 0.005)]
        self.now_s = 0.0
        self.calls: list[tuple[float, SimulatedCall | None]] = []
        """When each frame was captured, and its call."""
        self.edge = LinkAware(setting, FixedThreshold(0.0))
        self.simulation = Simulation(self.edge, self._trace(), setting)

    @property
    def known_s(self) -> float:
        """The link is laid down up to here."""
        return self.steps[-1].at_s

    def then(self, seconds: float, rate_bytes_per_s: float) -> None:
        """Add to the link's future."""
        last = self.steps[-1]
        self.steps[-1] = Step(last.at_s, rate_bytes_per_s, 0.005)
        self.steps.append(Step(last.at_s + seconds, RATE, 0.005))
        self.simulation.trace = self._trace()

    def play(self, seconds: float) -> None:
        """Offer frames for so long."""
        ends_s = self.now_s + seconds
        while self.now_s < ends_s:
            frame = ReplayFrame(self.now_s, 1.0, 43_000)
            self.calls.append((self.now_s, self.simulation.offer(frame)))
            self.now_s += 1 / FRAMES_PER_S

    def first_in_time(self, after_s: float) -> float:
        """When the first answer in time to a frame sent after this moment was back; infinity without one."""
        back = (call.ends_s for at_s, call in self.calls if at_s >= after_s and call and call.in_time)
        return min(back, default=math.inf)

    def kept(self, from_s: float, to_s: float) -> list[float]:
        """Captures of frames that were not sent."""
        return [at_s for at_s, call in self.calls if from_s <= at_s < to_s and call is None]

    def _trace(self) -> LinkTrace:
        last = self.steps[-1]
        return LinkTrace("link", [*self.steps, Step(last.at_s + 1e6, last.rate_bytes_per_s, last.rtt_s)])


@pytest.mark.parametrize("pause_s", [0.7, 1.5, 3.0, 8.0, 60.0])
def test_after_a_pause_every_frame_is_sent_again(pause_s: float) -> None:
    """Five seconds after the first probe in time at the latest, however long nothing was answered."""
    camera = Camera()
    camera.then(6.0, RATE)
    camera.then(pause_s, 0.0)
    camera.play(6.0 + pause_s + 60)
    recovered_s = camera.first_in_time(6.0 + pause_s) + RECOVERED_S
    assert recovered_s < 6.0 + pause_s + 25 + RECOVERED_S
    assert camera.kept(recovered_s, math.inf) == []


@pytest.mark.parametrize("slow_s", [2.0, 10.0, 40.0])
def test_after_a_cold_start_every_frame_is_sent(slow_s: float) -> None:
    """A server that first takes 1.15 s a frame does not stand in the way once it takes its usual time."""
    camera = Camera()
    camera.simulation.server_s = 1.15
    camera.play(slow_s)
    camera.simulation.server_s = 0.03
    camera.play(60)
    recovered_s = camera.first_in_time(slow_s) + RECOVERED_S
    assert recovered_s < slow_s + 25 + RECOVERED_S
    assert camera.kept(recovered_s, math.inf) == []


def test_a_slow_link_is_not_filled_before_it_is_known() -> None:
    """Two frames leave of the first second's eight, when each takes a second: the second shows what it is."""
    camera = Camera()
    camera.then(600.0, 43_000)
    camera.play(1.0)
    assert sum(call is not None for _, call in camera.calls) == 2


def test_a_slow_first_encoding_is_forgotten() -> None:
    """What took 1.15 s on the device at first, and takes 5 ms now."""
    camera = Camera()
    slow = Setting(deadline_s=0.5, encode_s=1.15)
    camera.edge.setting = camera.simulation.setting = slow
    camera.play(5)
    camera.edge.setting = camera.simulation.setting = AS_BEFORE
    camera.play(60)
    recovered_s = camera.first_in_time(5) + RECOVERED_S
    assert recovered_s < 5 + 25 + RECOVERED_S
    assert camera.kept(recovered_s, math.inf) == []


def test_a_link_that_stays_slow_gets_rare_probes_alone() -> None:
    """Half of the rate that the deadline needs, for ten minutes: no probe in time, so nothing else either."""
    camera = Camera()
    camera.then(600.0, 43_000 / 0.9)
    camera.play(600)
    sent = [call for _, call in camera.calls if call]
    assert len(sent) < 50


class Troubles(RuleBasedStateMachine):
    """Pauses of the link and slow times of the server, in any order, with good times between them."""

    def __init__(self) -> None:
        super().__init__()
        self.camera = Camera()
        self.camera.then(2.0, RATE)
        self.good_from_s = 0.0
        """Since when there has been no trouble."""

    @rule(seconds=st.floats(0.3, 20))
    def pause(self, seconds: float) -> None:
        """Nothing passes for so long."""
        self.camera.then(seconds, 0.0)
        self._play_what_is_known()

    @rule(seconds=st.floats(0.3, 20), took_s=st.floats(0.4, 3))
    def slow_server(self, seconds: float, took_s: float) -> None:
        """The server takes longer than the deadline allows."""
        self.camera.simulation.server_s = took_s
        self.camera.then(seconds, RATE)
        self._play_what_is_known()
        self.camera.simulation.server_s = AS_BEFORE.server_s
        self.good_from_s = self.camera.now_s

    @rule(seconds=st.floats(0.3, 30))
    def good(self, seconds: float) -> None:
        """Everything as it should be."""
        good_from_s = max(self.good_from_s, self.camera.known_s)
        self.camera.then(seconds, RATE)
        self.camera.play(self.camera.known_s - self.camera.now_s)
        self.good_from_s = good_from_s

    @invariant()
    def sends_again(self) -> None:
        """Five seconds after the first answer in time of a good time every frame is sent, to its end."""
        recovered_s = self.camera.first_in_time(self.good_from_s) + RECOVERED_S
        assert self.camera.kept(recovered_s, math.inf) == []

    def _play_what_is_known(self) -> None:
        self.camera.play(self.camera.known_s - self.camera.now_s)
        self.good_from_s = self.camera.known_s


TestTroubles = Troubles.TestCase
TestTroubles.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
