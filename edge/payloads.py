"""What each form of a frame costs, learnt from the frames that were sent in it, and what the link costs."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.model.split import Cut
from common.types import Action
from edge.config import PayloadKind, Rung, UplinkConfig, UplinkProtocol
from edge.link import PRIOR, LinkEstimate, LinkEstimator, Transfer
from edge.parcel import PICTURE, TENSOR, usual_rung
from edge.values import LinkView, PayloadOption

REFUSED_S = 60.0
"""How long a cut whose tail the server has not is left alone."""
_SMOOTHING = 0.2
_PICTURE_BYTES, _TENSOR_BYTES = 50_000.0, 600_000.0


@dataclass(frozen=True, slots=True)
class Form:
    """One form: bytes, seconds on this device and on the server; smoothed over the calls that used it."""

    action: Action
    payload_bytes: float
    make_s: float
    server_s: float
    kept: float
    refused_until_s: float = 0.0
    known: bool = False
    """Whether a frame was encoded in this form; until then its bytes are a guess."""


def picture_forms(usual: Rung, ladder: Sequence[Rung]) -> dict[str, Form]:
    """The usual picture, believed to be 50 kB, and the smaller ones of the ladder."""
    rungs = {PICTURE: usual} | {rung.name: rung for rung in ladder}
    unit = _PICTURE_BYTES / _relative_size(usual)
    return {
        name: Form(Action.SEND_FRAME, unit * _relative_size(rung), 0.005, 0.02, rung.kept)
        for name, rung in rungs.items()
    }


def cut_forms(cuts: Sequence[Cut]) -> dict[str, Form]:
    """Features, believed to cost what the split plan says."""
    return {cut.name: Form(Action.SEND_FEATURES, cut.feature_bytes, 0.02, 0.02, cut.fidelity) for cut in cuts}


def _relative_size(rung: Rung) -> float:
    """Bytes up to a factor, as photographs of 1280 pixels have them: a guess until a frame was encoded."""
    side = min(1280, rung.longest_side or 1280)
    return side * side * (0.05 + 0.4 * (rung.jpeg_quality / 100) ** 3)


ObserveLink = Callable[[float, float], None]
"""Hears of each call what it tells of the link: bytes a second (0: nothing comes through), and round trip."""


def unobserved(rate_bytes_per_s: float, rtt_s: float) -> None:
    """Nobody wants to know."""
    del rate_bytes_per_s, rtt_s


class PayloadBook:
    """The forms to choose from, the link, and what a form would cost on it now. Thread-safe.

    With `features` a picture is there to choose only while the server refuses every cut, with `features_only`
    never: the caller leaves it out of `forms`.
    """

    def __init__(
        self,
        forms: Mapping[str, Form],
        kind: PayloadKind,
        clock: Callable[[], float] = time.monotonic,
        observe: ObserveLink = unobserved,
    ) -> None:
        self._observe = observe
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._link = LinkEstimator()
        self._estimate: LinkEstimate = PRIOR
        self._bytes_in_flight = 0
        self._forms = dict(forms)

    def view(self, server_queue_s: float = 0.0) -> LinkView:
        """The link, and every form that may be used with its predicted latency."""
        with self._lock:
            now_s = self._clock()
            # What is known grows old and is still the best guess; a probe will tell.
            self._estimate = self._link.estimate(now_s) or self._estimate
            estimate = replace(self._estimate, server_queue_s=server_queue_s)
            options = tuple(
                PayloadOption(
                    name,
                    form.action,
                    form.payload_bytes,
                    self._latency_s(estimate, form),
                    form.kept,
                    form.known,
                )
                for name, form in self._usable(now_s).items()
            )
            return LinkView(estimate, options, self._bytes_in_flight, self._link.may_probe(now_s))

    def options(self) -> tuple[PayloadOption, ...]:
        """Every form that may be used, with its predicted latency."""
        return self.view().options

    def made(self, name: str, payload_bytes: int, make_s: float) -> None:
        """A frame was encoded in that form; the sizes of pictures that never were keep their ratio to it."""
        with self._lock:
            form = self._forms.get(name)
            if form is None:
                return
            old = form.payload_bytes
            new = _towards(old, payload_bytes) if form.known else float(payload_bytes)
            for other, guess in self._forms.items():
                if not guess.known and guess.action is form.action is Action.SEND_FRAME:
                    self._forms[other] = replace(guess, payload_bytes=guess.payload_bytes * new / old)
            self._forms[name] = replace(
                form, payload_bytes=new, make_s=_towards(form.make_s, make_s), known=True
            )

    def departed(self, name: str, payload_bytes: int, time_left_s: float) -> int:
        """A call begins; the bytes that the link has to carry before it is through, its own included."""
        with self._lock:
            now_s = self._clock()
            form = self._forms.get(name)
            late = form is not None and self._latency_s(self._estimate, form) > time_left_s
            self._link.tried(now_s, probe=late)
            self._bytes_in_flight += payload_bytes
            return self._bytes_in_flight

    def landed(self, payload_bytes: int) -> None:
        """A call that `departed` has ended, however."""
        with self._lock:
            self._bytes_in_flight -= payload_bytes

    def answered(
        self, name: str, carried_bytes: int, network_s: float, server_s: float, *, in_time: bool = True
    ) -> None:
        """A call in that form was answered: the time of the network alone, and the server's own.

        `carried_bytes` is what `departed` gave.
        """
        with self._lock:
            self._link.answered(
                Transfer(self._clock(), carried_bytes, network_s), 0.0, server_s, in_time=in_time
            )
            self._tell(carried_bytes, network_s)
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(form, server_s=_towards(form.server_s, server_s))

    def timed_out(self, carried_bytes: int, waited_s: float) -> None:
        """A call was given up after so long."""
        self._observe(0.0, 0.0)
        with self._lock:
            self._link.timed_out(Transfer(self._clock(), carried_bytes, waited_s))

    def unreachable(self) -> None:
        """A call found nobody: of a link that is gone there is nothing to learn but that."""
        self._observe(0.0, 0.0)

    def refused(self, name: str) -> None:
        """The server has not the tail of that cut."""
        with self._lock:
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(form, refused_until_s=self._clock() + REFUSED_S)

    def _tell(self, carried_bytes: int, network_s: float) -> None:
        known = self._link.estimate(self._clock()) or PRIOR
        rtt_s = min(known.rtt_s, network_s)
        self._observe(carried_bytes / max(network_s - rtt_s, 1e-4), rtt_s)

    def _latency_s(self, estimate: LinkEstimate, form: Form) -> float:
        # What is under way is before this frame on the link.
        through = replace(estimate, server_infer_s=form.server_s)
        return through.latency_s(form.payload_bytes + self._bytes_in_flight, form.make_s)

    def _usable(self, now_s: float) -> dict[str, Form]:
        usable = {name: form for name, form in self._forms.items() if form.refused_until_s <= now_s}
        features = {name: form for name, form in usable.items() if form.action is Action.SEND_FEATURES}
        if self._kind is PayloadKind.FEATURES and features:
            return features
        return usable or self._forms


def _towards(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old)


def build_book(config: UplinkConfig, cuts: Sequence[Cut], observe: ObserveLink = unobserved) -> PayloadBook:
    """The book of what this configuration can send."""
    if config.protocol is UplinkProtocol.OIP:
        tensor = Form(Action.SEND_FRAME, _TENSOR_BYTES, 0.005, 0.02, 1.0)
        return PayloadBook({TENSOR: tensor}, config.payload, observe=observe)
    pictures = picture_forms(usual_rung(config), config.ladder)
    wanted = {} if config.payload is PayloadKind.FEATURES_ONLY else pictures
    return PayloadBook(wanted | cut_forms(cuts), config.payload, observe=observe)
