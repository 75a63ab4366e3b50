"""Latency over shaped links: a real server process, real gRPC, every form of a frame in turn."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from scipy.stats import bootstrap

from benchmarks.split.forms import Form
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, SplitPlan
from spillover.common.types import Image
from spillover.common.wire.conversion import reply_from_pb, request_to_pb
from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub
from spillover.edge.config import PayloadKind, PictureVariant
from spillover.edge.link.payload_costs import PayloadCostModel, cut_forms, picture_forms
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.policy.forms import choose_payload
from spillover.lab.pairs.evaluate.mixture import Floats
from spillover.lab.shaper.link import Link, constant
from spillover.lab.shaper.proxy import shaped
from spillover.lab.terminal import Progress

CALL_S = 60.0
ROUND_TRIP_MS = 50.0
EDGE_ONLY, AUTO = "edge only", "chosen at run time"


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one way to answer over one link, by frame; and the mean payload."""

    seconds: tuple[float, ...]
    predicted_s: float | None
    payload_bytes: float

    @property
    def p50_s(self) -> float:
        """The median."""
        return float(np.median(self.seconds))

    @property
    def p99_s(self) -> float:
        """What one frame in a hundred exceeds."""
        return float(np.quantile(self.seconds, 0.99))


@dataclass(frozen=True, slots=True)
class Choice:
    """The run-time choice beside the best fixed form: the ratio of medians, with a 95 % interval."""

    best: str
    ratio: float
    low: float
    high: float


def judge_choice(latencies: Mapping[str, Latency]) -> Choice:
    """Compare over one link, frame by frame; the interval is bootstrapped over frames.

    The best form is known only afterwards, and as the luckiest of many it looks a little better than it is,
    so the ratio errs against the choice.
    """
    fixed = [name for name in latencies if name not in {EDGE_ONLY, AUTO}]
    best = min(fixed, key=lambda name: latencies[name].p50_s)
    pairs = (latencies[AUTO].seconds, latencies[best].seconds)
    drawn = bootstrap(pairs, _ratio_of_medians, paired=True, n_resamples=2000, method="percentile", rng=0)
    low, high = drawn.confidence_interval
    return Choice(best, latencies[AUTO].p50_s / latencies[best].p50_s, float(low), float(high))


def _ratio_of_medians(a: Floats, b: Floats, axis: int) -> Floats:
    ratio: Floats = np.median(a, axis=axis) / np.median(b, axis=axis)
    return ratio


@dataclass(frozen=True, slots=True)
class Cost:
    """Mean bytes of a form, and seconds that each side spends on it."""

    payload_bytes: float
    make_s: float
    server_s: float


class Sender:
    """Sends frames over one shaped link."""

    def __init__(self, stub: SpilloverStub, forms: Mapping[str, Form], book: PayloadCostModel) -> None:
        self._stub = stub
        self._forms = forms
        self._book = book

    def send(self, name: str, image: Image, *, learn: bool = False) -> tuple[float, int]:
        """Make, send, wait: seconds from the frame to its answer, and the payload's bytes.

        Only with `learn` are the payload costs updated: the run-time choice uses what it measured itself.
        """
        started_s = time.perf_counter()
        sent = self._forms[name].make(image)
        made_s = time.perf_counter()
        upload = self._book.departed(name, sent.payload_bytes, CALL_S) if learn else None
        reply = reply_from_pb(self._stub.Infer(request_to_pb(sent.request), timeout=CALL_S))
        done_s = time.perf_counter()
        if upload is not None:
            server_s = reply.timings.total_s
            self._book.made(name, sent.payload_bytes, made_s - started_s)
            self._book.answered(name, upload, max(0.0, done_s - made_s - server_s), server_s)
        return done_s - started_s, sent.payload_bytes

    def send_chosen(self, image: Image) -> tuple[float, int]:
        """Let the edge's own policy choose the form from the measured costs of link and forms."""
        chosen = choose_payload(self._book.options(), time_left_s=CALL_S)
        return self.send(chosen.name, image, learn=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """The forms by name, their costs, the cuts among them, and the edge's own model."""

    forms: Mapping[str, Form]
    costs: Mapping[str, Cost]
    cuts: Sequence[Cut]
    edge: Model


def measure_link(
    address: str, megabits: float, setting: Setting, images: Sequence[Image], progress: Progress
) -> dict[str, Latency]:
    """Every way to answer, in an order of its own for each frame, over one link of `megabits` upwards."""
    order = np.random.default_rng(0)
    link = Link(rtt_ms=ROUND_TRIP_MS, up_mbit_per_s=megabits)
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    with shaped(address, constant(link)) as proxy, grpc.insecure_channel(proxy.address) as channel:
        book = PayloadCostModel(
            picture_forms(PictureVariant(jpeg_quality=85), ()) | cut_forms(setting.cuts), PayloadKind.AUTO
        )
        sender = Sender(SpilloverStub(channel), setting.forms, book)
        for name in setting.forms:  # connection and first allocation
            sender.send(name, images[0])
        for name in (option.name for option in book.options()):
            sender.send(name, images[0], learn=True)
        for image in progress.track(images, f"{megabits:g} Mbit/s"):
            seconds.setdefault(EDGE_ONLY, []).append(_edge_seconds(setting.edge, image))
            sizes.setdefault(EDGE_ONLY, []).append(0)
            for name in order.permutation([*setting.forms, AUTO]).tolist():
                took_s, size = sender.send_chosen(image) if name == AUTO else sender.send(name, image)
                seconds.setdefault(name, []).append(took_s)
                sizes.setdefault(name, []).append(size)
    return {
        name: Latency(
            tuple(times),
            _predicted_s(setting.costs[name], link) if name in setting.costs else None,
            float(np.mean(sizes[name])),
        )
        for name, times in seconds.items()
    }


def _edge_seconds(model: Model, image: Image) -> float:
    started_s = time.perf_counter()
    model.predict(image)
    return time.perf_counter() - started_s


def _predicted_s(cost: Cost, link: Link) -> float:
    """The latency that a plan would predict from single times and the link."""
    network_s = link.rtt_ms / 1000 + cost.payload_bytes / link.up_bytes_per_s
    return cost.make_s + network_s + cost.server_s


def cost_of(form: Form, images: Sequence[Image], server_s: float) -> Cost:
    """The cost of a form, measured on a few frames."""
    form.make(images[0])
    started_s = time.perf_counter()
    sent = [form.make(image) for image in images]
    make_s = (time.perf_counter() - started_s) / len(sent)
    return Cost(float(np.mean([s.payload_bytes for s in sent])), make_s, server_s)


def features_forms(folder: Path, plan: SplitPlan, threads: int) -> dict[str, FeatureEncoder]:
    """The encoder of every cut."""
    return {cut.name: FeatureEncoder(folder, cut.name, SessionConfig(threads=threads)) for cut in plan.cuts}
