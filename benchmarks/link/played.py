"""Plays frames over a link twice: as the edge would send them, and as one who knows the link would."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.edge.policy.share import FixedThreshold
from spillover.lab.pairs.replay.simulate import (
    LinkAware,
    ReplayFrame,
    Setting,
    Simulation,
    in_time_for_one_who_knows,
    simulate,
)
from spillover.lab.pairs.replay.trace import LinkTrace, Step

RECOVERED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Played:
    """What the edge made of a link; the sender beside it knows the link and sends what will be in time."""

    sent: int
    in_time: int
    possible: int
    """Frames that the other sender gets back in time."""
    bytes_in_time: float
    possible_bytes: float
    link_share: float
    """Bytes in time over bytes that were offered or that the link carries, whichever is less."""

    @property
    def in_time_share(self) -> float:
        """Of what was sent; 1 when nothing was."""
        return self.in_time / self.sent if self.sent else 1.0

    @property
    def used_share(self) -> float:
        """Of the bytes that could be back in time, those that were; 1 when none could."""
        return self.bytes_in_time / self.possible_bytes if self.possible_bytes else 1.0


def frames_of(
    seconds: float, frames_per_s: float, size: float, spread: float, seed: int = 0
) -> list[ReplayFrame]:
    """Frames at even distances; sizes are uniform within `spread` of `size`."""
    random = np.random.default_rng(seed)
    count = int(seconds * frames_per_s)
    sizes = size * (1 + spread * random.uniform(-1, 1, count))
    return [ReplayFrame(n / frames_per_s, 1.0, float(sizes[n])) for n in range(count)]


def play(frames: Sequence[ReplayFrame], trace: LinkTrace, setting: Setting) -> Played:
    """Play the frames, all of which are wanted in the cloud."""
    outcome = simulate(frames, LinkAware(setting, FixedThreshold(0.0)), trace, setting)
    possible = in_time_for_one_who_knows(frames, trace, setting)
    possible_bytes = sum(frame.payload_bytes for frame in possible)
    offered = sum(frame.payload_bytes for frame in frames)
    pairs = zip(trace.steps[:-1], trace.steps[1:], strict=True)
    carried = sum(a.rate_bytes_per_s * (b.at_s - a.at_s) for a, b in pairs)
    seconds = frames[-1].captured_s - frames[0].captured_s
    could = min(offered, carried * seconds / trace.duration_s)
    return Played(
        outcome.sent,
        outcome.on_time,
        len(possible),
        outcome.bytes_on_time,
        possible_bytes,
        outcome.bytes_on_time / could,
    )


def can_be_in_time(trace: LinkTrace, size: float, setting: Setting) -> bool:
    """Whether a picture that is alone on the link uses at most four fifths of its deadline."""
    first = trace.steps[0]
    alone_s = setting.local_s + setting.encode_s + setting.server_s + first.rtt_s
    return alone_s + size / first.rate_bytes_per_s <= 0.8 * setting.deadline_s


def recovery_s(pause_s: float, *, server_s: float | None = None) -> float:
    """Seconds from the first probe in time after trouble until every frame is sent again, over 16 Mbit/s.

    The link carries nothing for `pause_s`; or, from the first frame on, the server takes `server_s`.
    """
    setting, began_s = Setting(deadline_s=0.5), 0.0 if server_s else 6.0
    lines = [Step(0.0, 2e6, 0.005), Step(1e5, 2e6, 0.005)]
    if server_s is None:
        lines[1:1] = [Step(began_s, 0.0, 0.005), Step(began_s + pause_s, 2e6, 0.005)]
    simulation = Simulation(LinkAware(setting, FixedThreshold(0.0)), LinkTrace("trouble", lines), setting)
    over_s = began_s + pause_s
    probed_s, kept_s = None, over_s
    for frame in frames_of(over_s + 60, 8, 43_000, 0.2):
        in_trouble = frame.captured_s < over_s
        simulation.server_s = server_s if server_s and in_trouble else setting.server_s
        call = simulation.offer(frame)
        if in_trouble:
            continue
        if call is None:
            kept_s = frame.captured_s
        elif call.in_time and probed_s is None:
            probed_s = call.ends_s
    return max(0.0, kept_s - probed_s) if probed_s is not None else float("inf")
