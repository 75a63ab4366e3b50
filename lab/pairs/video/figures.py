"""The figures of one run over a clip, for the whole and for either half."""

from dataclasses import dataclass

import numpy as np

from spillover.edge.link.byte_budget import wire_bytes
from spillover.lab.pairs.video.answers import Counts
from spillover.lab.pairs.video.clip import Clip, Floats
from spillover.lab.pairs.video.identity import Numbered, identity
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.objects import Linked, mean_delay_s
from spillover.lab.pairs.video.play import Output, Played
from spillover.lab.pairs.video.streaming import Precision, f1_of, shown_at


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is: who answers, in which form frames are sent, how many, and how late answers are."""

    method: str
    late_s: float = 0.0
    variant: str = ""
    """Name of the picture variant; empty: nothing is sent."""
    asked: float = 0.0
    """The share that may be sent, of cloud_only's bytes or of the frames."""
    sender: str = ""
    """Who picks the frames; empty: all or none are sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of consecutive frames; shares are of what `cloud_only` sends for the same frames."""

    frames: int
    sent: int
    payload_bytes: int
    payload_share: float
    wire_bytes: int
    """With headers and framing, as a byte budget counts them."""
    wire_share: float
    f1: float
    """Mean F1 of what was known of each frame at its own instant."""
    streaming_f1: float
    """Mean F1 of what was newest at each frame's instant, the edge's own time counted."""


@dataclass(frozen=True, slots=True)
class Run:
    """All figures of one run."""

    setup: Setup
    whole: Part
    first_half: Part
    second_half: Part
    streaming_ap50: float | None
    delay_s: float | None
    """Mean seconds from an object's entry to its first detection; None where no object stays for a second."""
    idf1: float | None = None
    """With labelled objects and numbered tracks only, as `switches`."""
    switches: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The truth of a clip, and what `cloud_only` sends for it."""

    clip: Clip
    truth: Truth
    objects: list[Linked]
    precision: Precision
    full_bytes: Counts
    """Bytes of each frame in cloud_only's form, (N,)."""

    def figures(self, setup: Setup, played: Played, payload_bytes: Counts) -> Run:
        """Judge what one run has shown; `payload_bytes` are those of each frame in the form it sends."""
        times_s = self.clip.times_s
        known = [output.boxes for output in played.shown]
        newest = shown_at(times_s, played.outputs)
        sent = np.zeros(len(times_s), np.bool_)
        sent[played.sent] = True
        columns = f1_of(known, self.truth), f1_of(newest, self.truth)
        middle = len(times_s) // 2

        def part(frames: slice) -> Part:
            return self._part(frames, sent, payload_bytes, columns)

        ids = self._identity(played.shown)
        return Run(
            setup,
            part(slice(None)),
            part(slice(None, middle)),
            part(slice(middle, None)),
            self.precision.ap50(newest),
            mean_delay_s(self.objects, newest, times_s),
            *ids,
        )

    def _part(
        self, frames: slice, sent: np.ndarray, payload_bytes: Counts, columns: tuple[Floats, Floats]
    ) -> Part:
        chosen, full = payload_bytes[frames][sent[frames]], self.full_bytes[frames]
        on_wire, full_wire = _on_wire(chosen), _on_wire(full)
        return Part(
            frames=len(full),
            sent=len(chosen),
            payload_bytes=int(chosen.sum()),
            payload_share=float(chosen.sum() / full.sum()),
            wire_bytes=on_wire,
            wire_share=on_wire / full_wire,
            f1=float(columns[0][frames].mean()),
            streaming_f1=float(columns[1][frames].mean()),
        )

    def _identity(self, shown: list[Output]) -> tuple[float | None, int | None]:
        """IDF1 and switches; None where the truth or the run does not number objects."""
        tracks = [self._numbered(output) for output in shown if output.tracks is not None]
        if self.truth.ids is None or len(tracks) < len(shown):
            return None, None
        truth = [Numbered(*one) for one in zip(self.truth.boxes, self.truth.ids, strict=True)]
        found = identity(truth, tracks)
        return found.idf1, found.switches

    def _numbered(self, output: Output) -> Numbered:
        ids = np.array([mark.track_id for mark in output.tracks or ()], np.int64)
        judged = self.truth.is_judged(output.boxes)
        return Numbered(output.boxes[judged], ids[judged])


def _on_wire(payload_bytes: Counts) -> int:
    return round(sum(wire_bytes(size) for size in payload_bytes.tolist()))
