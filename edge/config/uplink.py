"""The keys of the uplink: how frames reach the cloud, and in which form."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.model.session_config import SessionConfig
from spillover.common.net.addresses import address_fault, is_loopback
from spillover.edge.config.kinds import Count, NotNegative, Share


class TlsConfig(Section, frozen=True):
    """Encryption between edge and cloud. Files are read again when they change."""

    ca: str
    """PEM file of the CA that signed the server's certificate."""
    certificate: str = ""
    """PEM file of this device's certificate, if the server asks for one."""
    key: str = ""
    """PEM file of the certificate's private key."""
    server_name: str = ""
    """The name in the server's certificate, if it is not the host of `address`."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a certificate without its key, and a key without its certificate."""
        return (self._pair(),)

    def _pair(self) -> Iterator[Mistake]:
        if bool(self.certificate) != bool(self.key):
            given, absent = ("certificate", "key") if self.certificate else ("key", "certificate")
            yield given, f"needs {absent} beside it: certificate and key belong together"


class PayloadKind(enum.Enum):
    """What is sent of a frame."""

    PICTURE = "picture"
    """A JPEG."""
    FEATURES = "features"
    """Features of a split network; a JPEG if the server does not have the other half."""
    FEATURES_ONLY = "features_only"
    """Features, never a picture: no pixel leaves the device."""
    AUTO = "auto"
    """For each frame the form that is predicted to be answered first."""
    VIDEO = "video"
    """H.264 of the frames that are sent, each coded against one that the server has; else a JPEG."""

    @property
    def has_features(self) -> bool:
        """Whether heads of a split network run here."""
        return self in {PayloadKind.FEATURES, PayloadKind.FEATURES_ONLY, PayloadKind.AUTO}


class SplitConfig(Section, frozen=True):
    """The heads that this device can run, of a model split with `spillover lab split`."""

    folder: str
    """The split model's folder, a copy of the cloud's."""
    cuts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of cuts in its split.yaml; each head takes memory. The first is the usual one."""
    session: SessionConfig = SessionConfig()
    """How ONNX Runtime runs the heads."""


class VideoConfig(Section, frozen=True):
    """How frames are coded with payload `video`."""

    longest_side: Annotated[int, msgspec.Meta(ge=32, le=4096)] = 416
    """Shrink frames until the longest side has this many pixels: what the cloud's network sees."""
    crf: Annotated[int, msgspec.Meta(ge=1, le=51)] | None = None
    """x264's constant rate factor: 1 is nearly lossless, 51 the smallest. Null: for each camera the one with
    which its pictures are as near to its frames as a JPEG of quality 70; the device compares the two."""
    fidelity: Share | None = None
    """Share of the cloud's answers that this form keeps. Null: what the gain file says, else 1."""


class UplinkProtocol(enum.Enum):
    """What the server speaks."""

    SPILLOVER = "spillover"
    """Spillover's own protocol, which takes pictures."""
    OIP = "oip"
    """The Open Inference Protocol v2 of Triton, MLServer and KServe, which takes tensors."""


class TensorType(enum.Enum):
    """Datatype of the network's input, by the Open Inference Protocol's names."""

    FP32 = "FP32"
    FP16 = "FP16"
    UINT8 = "UINT8"
    """For a network that normalises inside."""


class OipConfig(Section, frozen=True):
    """The cloud's network: how its input is prepared here and its outputs are decoded."""

    manifest: str
    """The network's model.yaml, a folder that holds one, or the name of a prepared model."""
    input: str
    """Name of the input that takes the picture."""
    outputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of the outputs, in the order in which the decoder takes them."""
    datatype: TensorType = TensorType.FP32
    """Datatype of the input."""


class PictureVariant(Section, frozen=True):
    """A smaller picture that may be sent in place of the usual one."""

    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)]
    """JPEG quality."""
    longest_side: Count | None = None
    """Shrink the frame until its longest side has this many pixels; null: do not."""
    square: bool = False
    """Classifiers: send only the middle square. A network with `resize: centre_crop` sees nothing else."""
    fidelity: Share | None = None
    """Share of the cloud's answers that this form keeps. Null: what `spillover lab fit --variants` measured,
    else 1."""

    @property
    def name(self) -> str:
        """As decisions and records call it."""
        side = f"-{self.longest_side}" if self.longest_side else ""
        part = "-square" if self.square else ""
        return f"picture-q{self.jpeg_quality}{side}{part}"


REFRESHING = (PictureVariant(jpeg_quality=75, longest_side=416, fidelity=0.94),)
"""What refreshes tracks unless the configuration says otherwise.

On the first half of a street clip of 768 x 576 pixels that is the F1 of YOLOX-nano's answers (416 pixels)
with those to the frame itself; on the second half it is 0.96. It takes a quarter of the bytes of quality 85.
Quality 40 takes a seventh, for 0.93 there, but on a clip of 640 x 272 pixels it kept only 0.55 to 0.80 of the
answers, where this one kept 0.81 to 0.95.
"""


class UplinkConfig(Section, frozen=True):
    """How frames reach the cloud."""

    address: str = "127.0.0.1:50051"
    """`host:port` of the cloud."""
    protocol: UplinkProtocol = UplinkProtocol.SPILLOVER
    """What the server speaks."""
    oip: OipConfig | None = None
    """Required with protocol `oip`, refused otherwise."""
    tls: TlsConfig | None = None
    """Null: no encryption, which needs a loopback address or `allow_plaintext_network`."""
    token: str = ""
    """This device's token, as in `${SPILLOVER_TOKEN}`; empty: that of `token_file`, or none."""
    token_file: str = ""
    """A file that holds this device's token and nothing else; read again when it changes."""
    allow_plaintext_network: bool = False
    """Send pictures beyond this machine without encryption."""
    model_name: str = ""
    """Which model to ask for; empty: the server's default (`oip`: the manifest's name)."""
    model_version: str = ""
    """Empty: the newest version that the server has loaded."""
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 85
    """JPEG quality of the usual picture."""
    longest_side: Count | None = None
    """Shrink frames until the longest side has this many pixels; null: do not."""
    variants: tuple[PictureVariant, ...] | None = None
    """Smaller pictures to choose from when the usual one would be late or is over the byte budget; the
    smallest good one refreshes tracks. Null: for detectors with `tracking`, in mode `hybrid`, one of JPEG
    quality 75 and 416 pixels, which small networks see; else none. Name more if the cloud's network does."""
    payload: PayloadKind = PayloadKind.PICTURE
    """What is sent of a frame. `features`, `features_only` and `auto` need `split`, `video` the extra of that
    name."""
    video: VideoConfig = VideoConfig()
    """How frames are coded with payload `video`."""
    split: SplitConfig | None = None
    """The heads that this device can run; null: none."""
    max_in_flight: Count = 8
    """Calls at the same time, two until the first one has ended; one frame more is answered here and marked
    `edge_degraded`."""
    forecast: bool = True
    """Hold frames back whose answer is expected too late, and pause after failures. False: send whatever
    `max_in_flight` and the deadline allow, as a sender does that does not look at the link."""
    late_answer_window_s: NotNegative = 2.0
    """How long after the deadline an answer is still accepted, as a revision."""
    keepalive_s: Annotated[float, msgspec.Meta(ge=10, le=86_400)] = 30.0
    """Seconds between pings on an idle connection."""
    reconnect_backoff_max_s: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 10.0
    """The longest pause between two attempts to connect."""
    breaker_failures: Count = 5
    """After this many calls in a row that failed or missed their deadline, calls pause."""
    breaker_pause_max_s: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 4.0
    """The longest pause between two probes while the link is down."""
    max_message_bytes: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)] = 4 * 1024 * 1024
    """Larger messages are not sent."""
    max_classes: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 5
    """Ask for at most this many classes of a classification; 0: all."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse unencrypted pictures by mistake, features without a head, and tensors without a manifest."""
        return self._reachable(), self._oip(), self._payload(), self._tokens()

    def _reachable(self) -> Iterator[Mistake]:
        if fault := address_fault(self.address):
            yield "address", fault
        elif not (self.tls or self.allow_plaintext_network or is_loopback(self.address)):
            yield (
                "address",
                f"{self.address} is beyond this machine: set uplink.tls, or "
                "uplink.allow_plaintext_network: true to send pictures in the clear",
            )

    def _oip(self) -> Iterator[Mistake]:
        if self.protocol is UplinkProtocol.OIP and self.oip is None:
            yield "protocol", "oip needs the section uplink.oip"
        if self.protocol is not UplinkProtocol.OIP and self.oip is not None:
            yield "oip", "needs uplink.protocol: oip"
        if self.oip and self.variants:
            yield "variants", "tensors have no smaller form; it needs uplink.protocol: spillover"

    def _payload(self) -> Iterator[Mistake]:
        if self.payload is PayloadKind.PICTURE:
            return
        if self.oip:
            yield "payload", f"{self.payload.value} needs uplink.protocol: spillover"
        if self.split is None and self.payload.has_features:
            yield "payload", f"{self.payload.value} needs the section uplink.split"

    def _tokens(self) -> Iterator[Mistake]:
        if self.token and self.token_file:
            yield "token", "token and token_file both hold the token; set one of them"
