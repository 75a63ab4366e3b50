"""What an answer is worth on video: how many boxes it will put right, and for how long they have been wrong.

On video an answer serves the frames that follow: the cloud's boxes move on with the picture, until they are
wrong. So the value of sending a frame is not what this one frame gains, but how far the tracks have gone
astray since the newest frame that was sent, times the seconds since then, which is about how long the answer
will serve. The unit is a box that is wrong for one second.

A threshold on it is a clock: it strikes the sooner the more tracks there are and the faster they go astray,
and much sooner when many are born, end, or lose their points. Where errors grow evenly the value grows with
the square of the time, as the index of a source whose age is to be kept low does (Kadota et al., "Scheduling
policies for minimizing age of information in broadcast wireless networks", IEEE/ACM Trans. Networking, 2018).
"""

import math
from dataclasses import asdict

from spillover.edge.policy.base import NEVER_S, Context
from spillover.edge.tracking.stage import TrackSummary

PRIOR_HALF_LIFE_S = 2.0
"""Assumed until the tracker has measured how long the cloud's boxes stay right."""
LEAST_HALF_LIFE_S = 0.01
LONGEST_S = 60.0
"""The value does not grow with the time beyond this."""
BIRTH, DEATH, FLOW_FAILURE, DOUBT = 0.5, 0.1, 0.3, 0.5
"""Boxes that one of these is expected to have made wrong, beside those that have gone astray unseen.

Fitted to how many errors an answer put right, on the first half of a street clip. The correlation is .86
there and .70 on the other half; that of the time alone is .76 and .46.
"""
TRACKS = "tracks."
"""Before the names of `TrackSummary`'s fields, in a decision's inputs."""
USEFUL_HALF_LIVES = 2.0
"""An answer that arrives later than this is of little use: three boxes in four are wrong by then."""


def value(tracks: TrackSummary, since_s: float) -> float | None:
    """The value of an answer to this frame, in box-seconds; None where there is nothing that it could serve.

    `since_s` is the age of the newest frame that was sent, infinite without one. An answer under way counts
    as given: it will put right what was wrong then.
    """
    if not (tracks.shown or tracks.births or tracks.deaths or tracks.flow_failures or tracks.doubtful):
        return None
    return wrong_boxes(tracks, since_s) * min(since_s, LONGEST_S)


def share_until(tracks: TrackSummary, next_s: float) -> float:
    """Share of a first answer's value that is left where the next one follows in `next_s` seconds."""
    whole, part = value(tracks, math.inf), value(tracks, next_s)
    return part / whole if whole and part is not None else 1.0


def wrong_boxes(tracks: TrackSummary, since_s: float) -> float:
    """How many boxes are expected to have become wrong since the newest frame that was sent."""
    astray = 1.0 - math.exp2(-since_s / half_life_s(tracks))
    lost = tracks.shown * astray
    if math.isfinite(tracks.half_life_s):
        lost = min(lost, tracks.stale)
    events = BIRTH * tracks.births + DEATH * tracks.deaths + FLOW_FAILURE * tracks.flow_failures
    return lost + DOUBT * tracks.doubtful + events


def half_life_s(tracks: TrackSummary) -> float:
    """Seconds in which half of the cloud's boxes become wrong: as measured, or else assumed."""
    return (
        max(tracks.half_life_s, LEAST_HALF_LIFE_S) if math.isfinite(tracks.half_life_s) else PRIOR_HALF_LIFE_S
    )


def useful_s(tracks: TrackSummary | None, time_left_s: float, late_window_s: float) -> float:
    """Seconds from now until the cloud's answer to this frame is of little use.

    Without tracks that is the frame's own deadline. With tracks a later answer helps the frames that follow,
    as long as its call lasts: `late_window_s` beyond the deadline.
    """
    if tracks is None:
        return time_left_s
    lasts_s = USEFUL_HALF_LIVES * half_life_s(tracks)
    return max(time_left_s, min(lasts_s, time_left_s + late_window_s))


def track_inputs(context: Context) -> dict[str, float]:
    """Every number of the tracks, the newest sent frame's age, and how long a late answer is waited for."""
    if context.tracks is None:
        return {}
    numbers = {name: float(number) for name, number in asdict(context.tracks).items() if name != "fresh"}
    finite = {f"{TRACKS}{name}": min(number, NEVER_S) for name, number in numbers.items()}
    since_s = min(context.since_last_offload_s, NEVER_S)
    return finite | {"since_last_offload_s": since_s, "late_window_s": context.late_window_s}
