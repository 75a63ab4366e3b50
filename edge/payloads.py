"""What each form of a frame costs, learnt from the frames that were sent in it."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common.model.split import Cut
from common.types import Action
from edge.config import PayloadKind
from edge.link import LinkFit
from edge.parcel import PICTURE
from edge.values import PayloadOption

REFUSED_S = 60.0
"""How long a cut whose tail the server has not is left alone."""
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class _Form:
    """One form: bytes, seconds on this device and on the server; smoothed over the calls that used it."""

    action: Action
    payload_bytes: float
    make_s: float
    server_s: float
    kept: float
    refused_until_s: float = 0.0


class PayloadBook:
    """The forms to choose from, and what they cost now. Thread-safe.

    Before the first call in it, a form is believed to cost what the split plan says, and a picture 50 kB.
    With `features` a picture is there to choose only while the server refuses every cut, with `features_only`
    never.
    """

    def __init__(
        self, cuts: Sequence[Cut], kind: PayloadKind, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._link = LinkFit()
        self._forms: dict[str, _Form] = {}
        if kind is not PayloadKind.FEATURES_ONLY:
            self._forms[PICTURE] = _Form(Action.SEND_FRAME, 50_000, 0.005, 0.02, 1.0)
        for cut in cuts:
            self._forms[cut.name] = _Form(Action.SEND_FEATURES, cut.feature_bytes, 0.02, 0.02, cut.fidelity)

    def options(self) -> tuple[PayloadOption, ...]:
        """Every form that may be used, with its predicted latency."""
        with self._lock:
            estimate = self._link.estimate()
            return tuple(
                PayloadOption(
                    name,
                    form.action,
                    form.payload_bytes,
                    form.make_s + estimate.seconds(form.payload_bytes) + form.server_s,
                    form.kept,
                )
                for name, form in self._usable().items()
            )

    def _usable(self) -> dict[str, _Form]:
        now = self._clock()
        usable = {name: form for name, form in self._forms.items() if form.refused_until_s <= now}
        if self._kind is PayloadKind.FEATURES and len(usable) > 1:
            del usable[PICTURE]
        return usable or self._forms

    def made(self, name: str, payload_bytes: int, make_s: float) -> None:
        """A frame was encoded in that form."""
        with self._lock:
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(
                    form,
                    payload_bytes=_towards(form.payload_bytes, payload_bytes),
                    make_s=_towards(form.make_s, make_s),
                )

    def answered(self, name: str, payload_bytes: int, network_s: float, server_s: float) -> None:
        """A call in that form was answered: the time of the network alone, and the server's own."""
        with self._lock:
            self._link.note(payload_bytes, network_s)
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(form, server_s=_towards(form.server_s, server_s))

    def refused(self, name: str) -> None:
        """The server has not the tail of that cut."""
        with self._lock:
            if (form := self._forms.get(name)) is not None:
                self._forms[name] = replace(form, refused_until_s=self._clock() + REFUSED_S)


def _towards(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old)
