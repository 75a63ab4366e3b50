"""What a frame costs in each form, learnt from sent frames, and what the link can carry."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from types import MappingProxyType

from spillover.common.model.split import Cut
from spillover.common.types import Action
from spillover.edge.config import PayloadKind, PictureVariant, UplinkConfig, UplinkProtocol, VideoConfig
from spillover.edge.link.estimator import LinkEstimate, LinkEstimator, Upload
from spillover.edge.link.state import LinkView, PayloadOption
from spillover.edge.payload.encoder import PICTURE, TENSOR, VIDEO, usual_variant
from spillover.edge.payload.streams import Outlook

REFUSED_S = 60.0
"""How long a cut is not used after the server reported that it has no matching tail."""
SAMPLES = 15
"""Each form's times are medians of this many recent calls, so that one delayed call has no effect."""
EXPLORE_EVERY, EXPLORE_EVERY_AT_FIRST, FIRST_SAMPLES = 20, 10, 3
"""One sent frame in so many uses a form that was not used for long; more often until it has samples."""
NEAR = 1.3
"""Only forms with a predicted time up to this many times the quickest one's are explored."""
_SMOOTHING = 0.2
_PICTURE_BYTES, _TENSOR_BYTES = 50_000.0, 600_000.0
_KEY_BYTES_A_PIXEL, _KEY_TO_OTHERS = 0.09, 10.0
"""Size of a key for each pixel of a square, and how much smaller others are: guesses until there are some."""


@dataclass(frozen=True, slots=True)
class PayloadCost:
    """Recent cost of one form: bytes, seconds on the device, and seconds on the server."""

    action: Action
    payload_bytes: float
    make_s: float
    server_s: float
    fidelity: float
    refused_until_s: float = 0.0
    made_s: tuple[float, ...] = ()
    served_s: tuple[float, ...] = ()
    made_at: int = 0
    """Number of the last frame sent in this form, counted from 1."""
    key_bytes: float = 0.0
    """Bytes of a key, where `payload_bytes` are those of what is coded against another; 0: in no stream."""
    has_size: bool = False
    has_key_size: bool = False
    """Whether `payload_bytes` and `key_bytes` are measured; before that each is a guess."""

    @property
    def known(self) -> bool:
        """Whether a frame was ever encoded in this form; until then the bytes are a guess."""
        return bool(self.made_s)

    @property
    def is_video(self) -> bool:
        """Whether frames can be sent in this form in a stream alone."""
        return self.key_bytes > 0 and self.action is Action.SEND_FRAME

    def expected_bytes(self, outlook: Outlook | None) -> float:
        """Bytes of the next frame in this form; `outlook` is that of its stream, None where it goes alone."""
        if not self.key_bytes:
            return self.payload_bytes
        if outlook is None:
            return self.key_bytes
        return outlook.behind_bytes + (self.key_bytes if outlook.key else self.payload_bytes)

    def option(self, name: str, estimate: LinkEstimate, outlook: Outlook | None) -> PayloadOption:
        """This form of the next frame."""
        size = self.expected_bytes(outlook)
        return PayloadOption(
            name,
            self.action,
            size,
            estimate.latency_s(size, self.make_s, self.server_s),
            self.fidelity,
            self.make_s,
            self.server_s,
            measured=self.known,
            extra_bytes=max(0.0, size - self.payload_bytes) if outlook else 0.0,
        )

    def made(self, new_bytes: float, make_s: float, number: int, *, key: bool = False) -> "PayloadCost":
        """The cost after frame `number` was encoded in this form; `new_bytes` are those not sent before."""
        recent = (*self.made_s, make_s)[-SAMPLES:]
        timed = replace(self, make_s=median_low(recent), made_s=recent, made_at=number)
        if key and self.key_bytes:
            size = _smoothed(self.key_bytes, new_bytes, known=self.has_key_size)
            guess = self.payload_bytes * (1.0 if self.has_size else size / self.key_bytes)
            return replace(timed, payload_bytes=guess, key_bytes=size, has_key_size=True)
        size = _smoothed(self.payload_bytes, new_bytes, known=self.has_size)
        return replace(timed, payload_bytes=size, has_size=True)

    def served(self, server_s: float) -> "PayloadCost":
        """The cost after one more call took `server_s` seconds on the server."""
        recent = (*self.served_s, server_s)[-SAMPLES:]
        return replace(self, server_s=median_low(recent), served_s=recent)

    def healed(self) -> "PayloadCost":
        """The cost by the last call alone: what was slow before it is over."""
        return replace(
            self,
            make_s=self.made_s[-1] if self.made_s else self.make_s,
            made_s=self.made_s[-1:],
            server_s=self.served_s[-1] if self.served_s else self.server_s,
            served_s=self.served_s[-1:],
        )


def _smoothed(size: float, latest: float, *, known: bool) -> float:
    return size + _SMOOTHING * (latest - size) if known else latest


def picture_forms(
    usual: PictureVariant,
    variants: Sequence[PictureVariant],
    measured: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, PayloadCost]:
    """The usual picture, assumed to be 50 kB, and the smaller variants.

    `measured` gives each variant's fidelity where the configuration does not.
    """
    by_name = {PICTURE: usual} | {variant.name: variant for variant in variants}
    unit = _PICTURE_BYTES / _relative_size(usual)
    return {
        name: PayloadCost(
            Action.SEND_FRAME, unit * _relative_size(variant), 0.005, 0.02, _fidelity(variant, measured)
        )
        for name, variant in by_name.items()
    }


def video_form(config: VideoConfig, measured: Mapping[str, float] = MappingProxyType({})) -> PayloadCost:
    """Video, of which a key is assumed to take 15 kB at 416 pixels, and another frame a tenth of it."""
    key_bytes = _KEY_BYTES_A_PIXEL * config.longest_side**2
    fidelity = measured.get(VIDEO, 1.0) if config.fidelity is None else config.fidelity
    return PayloadCost(
        Action.SEND_FRAME, key_bytes / _KEY_TO_OTHERS, 0.005, 0.02, fidelity, key_bytes=key_bytes
    )


def cut_forms(cuts: Sequence[Cut]) -> dict[str, PayloadCost]:
    """Features of each cut, with the costs that the split plan predicts, of keys too where there are any."""
    return {
        cut.name: PayloadCost(
            Action.SEND_FEATURES,
            cut.usual_bytes,
            0.02,
            0.02,
            cut.usual_fidelity,
            key_bytes=cut.inter.key_bytes if cut.inter else 0.0,
        )
        for cut in cuts
    }


def _fidelity(variant: PictureVariant, measured: Mapping[str, float]) -> float:
    return measured.get(variant.name, 1.0) if variant.fidelity is None else variant.fidelity


def _relative_size(variant: PictureVariant) -> float:
    """Bytes up to a constant factor, from photographs 1280 pixels wide: a guess until a frame is encoded."""
    side = min(1280, variant.longest_side or 1280)
    return side * side * (0.05 + 0.4 * (variant.jpeg_quality / 100) ** 3)


ObserveLink = Callable[[float, float], None]
"""Receives one sample of the link: rate in bytes per second (0: no call succeeds) and round trip in seconds.
It may block.
"""


def unobserved(rate_bytes_per_s: float, rtt_s: float) -> None:
    """Ignore the sample, because no trace is recorded."""
    del rate_bytes_per_s, rtt_s


OutlookOf = Callable[[str], Outlook | None]
"""What the next frame of a camera will be in its stream; None: it cannot be sent in one now."""
NO_STREAMS: Mapping[str, OutlookOf] = MappingProxyType({})


class PayloadCostModel:
    """The available forms, the link estimate, and each form's predicted cost. Thread-safe.

    With payload `features` a picture is available only while the server refuses every cut, with `video` only
    while the camera's stream pauses. With `features_only` it never is: the caller leaves it out of `forms`.
    `streams` has the outlook of each form that is coded against what was sent before.
    """

    def __init__(
        self,
        forms: Mapping[str, PayloadCost],
        kind: PayloadKind,
        clock: Callable[[], float] = time.monotonic,
        observe: ObserveLink = unobserved,
        streams: Mapping[str, OutlookOf] = NO_STREAMS,
    ) -> None:
        self._observe = observe
        self._streams = streams
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._link = LinkEstimator()
        self._server_queue_s = 0.0
        self._frames_made = 0
        self._forms = dict(forms)

    def view(self, server_queue_s: float = 0.0, in_flight: int = 0, camera_id: str = "") -> LinkView:
        """The link estimate, and every form that a camera can use with its predicted latency.

        `in_flight` counts frames handed to the uplink, of which some have not departed yet.
        """
        outlooks = {name: outlook(camera_id) for name, outlook in self._streams.items()}
        with self._lock:
            now_s = self._clock()
            self._server_queue_s = server_queue_s
            estimate = self._link.estimate(now_s, server_queue_s, in_flight)
            usable = self._usable(now_s, outlooks)
            options = (form.option(name, estimate, outlooks.get(name)) for name, form in usable.items())
            return LinkView(estimate, self._with_due(tuple(options)), self._link.may_probe(now_s))

    def options(self) -> tuple[PayloadOption, ...]:
        """Every usable form with its predicted latency."""
        return self.view().options

    def made(self, name: str, new_bytes: int, make_s: float, *, key: bool = False) -> None:
        """Note that a frame was encoded in that form; `new_bytes` leaves out what is sent again with it.

        Picture variants that were never encoded keep their assumed size ratio to it.
        """
        with self._lock:
            form = self._forms.get(name)
            if form is None:
                return
            self._frames_made += 1
            made = form.made(new_bytes, make_s, self._frames_made, key=key)
            ratio = made.payload_bytes / form.payload_bytes
            for other, guess in self._forms.items():
                alike = guess.action is form.action is Action.SEND_FRAME
                if alike and not (guess.known or guess.is_video or form.is_video):
                    self._forms[other] = replace(guess, payload_bytes=guess.payload_bytes * ratio)
            self._forms[name] = made

    def is_too_large(
        self, name: str, payload_bytes: int, time_left_s: float, outlook: Outlook | None = None
    ) -> bool:
        """Whether an encoded frame is larger than usual and its answer would be late.

        Of frames of the usual size the policy has decided itself, probes among them. Call it before `made`.
        `outlook` says what the frame has become in its stream.
        """
        with self._lock:
            form = self._forms.get(name)
            if form is None or not form.known:
                return False
            link = self._link.estimate(self._clock(), self._server_queue_s)
            is_late = link.latency_s(payload_bytes, 0.0, form.server_s) > time_left_s
            return is_late and payload_bytes > form.expected_bytes(outlook)

    def departed(self, name: str, payload_bytes: int, time_left_s: float) -> Upload:
        """Register a started call, and predict its time to the answer. `landed` must end it."""
        with self._lock:
            form = self._forms.get(name)
            server_s = self._server_queue_s + (form.server_s if form else 0.0)
            return self._link.departed(self._clock(), payload_bytes, server_s, time_left_s)

    def landed(self, upload: Upload) -> None:
        """Register the end, with any outcome, of a call that `departed` registered."""
        with self._lock:
            self._link.landed(upload)

    def answered(
        self, name: str, upload: Upload, network_s: float, server_s: float, *, in_time: bool = True
    ) -> None:
        """Note an answered call in that form: its network time and its server time."""
        with self._lock:
            heals = self._link.answered(upload, network_s, server_s, in_time=in_time)
            if (form := self._forms.get(name)) is not None:
                form = form.served(server_s)
                self._forms[name] = form.healed() if heals else form
            estimate = self._link.estimate(self._clock())
        # Not under the lock: it may write to disk.
        self._observe(estimate.rate_bytes_per_s, estimate.rtt_s)

    def timed_out(self, upload: Upload, waited_s: float) -> None:
        """Note a call that was abandoned after `waited_s` seconds."""
        self._observe(0.0, 0.0)
        with self._lock:
            self._link.timed_out(upload, waited_s)

    def unreachable(self) -> None:
        """Note a call that could not connect: the trace gets rate 0, the estimate does not change."""
        self._observe(0.0, 0.0)
        with self._lock:
            self._link.unreachable()

    def refused(self, name: str) -> None:
        """Note that the server has no tail for that cut."""
        with self._lock:
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(form, refused_until_s=self._clock() + REFUSED_S)

    def _with_due(self, options: tuple[PayloadOption, ...]) -> tuple[PayloadOption, ...]:
        """Mark one option as due from time to time: only use gives a form new measurements.

        It is the least recently used option among those within `NEAR` times the quickest.
        """
        if len(options) < 2:
            return options
        limit_s = NEAR * min(option.latency_s for option in options)
        near = [option for option in options if option.latency_s <= limit_s]
        due = min(near, key=lambda option: self._familiarity(option.name))
        is_familiar, _ = self._familiarity(due.name)
        every = EXPLORE_EVERY if is_familiar else EXPLORE_EVERY_AT_FIRST
        if not self._frames_made or self._frames_made % every:
            return options
        return tuple(replace(option, due=option is due) for option in options)

    def _familiarity(self, name: str) -> tuple[bool, int]:
        form = self._forms[name]
        return len(form.made_s) >= FIRST_SAMPLES, form.made_at

    def _usable(self, now_s: float, outlooks: Mapping[str, Outlook | None]) -> dict[str, PayloadCost]:
        usable = {name: form for name, form in self._forms.items() if form.refused_until_s <= now_s}
        if self._kind is PayloadKind.VIDEO and VIDEO in usable:
            paused = outlooks.get(VIDEO, Outlook()) is None
            return {name: form for name, form in usable.items() if form.is_video is not paused}
        features = {name: form for name, form in usable.items() if form.action is Action.SEND_FEATURES}
        if self._kind is PayloadKind.FEATURES and features:
            return features
        return usable or self._forms


def build_payload_costs(
    config: UplinkConfig,
    cuts: Sequence[Cut],
    observe: ObserveLink = unobserved,
    measured: Mapping[str, float] = MappingProxyType({}),
    streams: Mapping[str, OutlookOf] = NO_STREAMS,
) -> PayloadCostModel:
    """The cost model of what this configuration can send; `measured` is passed to `picture_forms`.

    Video is a form only where `streams` has it.
    """
    if config.protocol is UplinkProtocol.OIP:
        tensor = PayloadCost(Action.SEND_FRAME, _TENSOR_BYTES, 0.005, 0.02, 1.0)
        return PayloadCostModel({TENSOR: tensor}, config.payload, observe=observe)
    pictures = picture_forms(usual_variant(config), config.variants or (), measured)
    wanted = {} if config.payload is PayloadKind.FEATURES_ONLY else pictures
    video = {VIDEO: video_form(config.video, measured)} if VIDEO in streams else {}
    forms = video | wanted | cut_forms(cuts)
    return PayloadCostModel(forms, config.payload, observe=observe, streams=streams)
