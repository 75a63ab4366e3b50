"""The way to the cloud, and the forms in which a frame takes it."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.common.model.session_config import SessionConfig
from spillover.common.net.addresses import check_host_port, is_loopback
from spillover.edge.config.kinds import Count, NotNegative, Share


class TlsConfig(Section, frozen=True):
    """Encryption on the way to the cloud. The files are read again when they change."""

    ca: str
    """The CA, PEM, that has signed the server's certificate."""
    certificate: str = ""
    """This device's certificate, PEM, for a server that asks for one."""
    key: str = ""
    """The certificate's private key, PEM."""
    server_name: str = ""
    """The name in the server's certificate, where that is not the host of `address`."""

    def __post_init__(self) -> None:
        """Refuse half a pair."""
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")


class PayloadKind(enum.Enum):
    """What is sent of a frame: pictures, features of a split network, or whichever is quicker now.

    FEATURES falls back to a picture when the server has no tail for the head. FEATURES_ONLY never does: no
    pixel leaves the device.
    """

    PICTURE = "picture"
    FEATURES = "features"
    FEATURES_ONLY = "features_only"
    AUTO = "auto"


class SplitConfig(Section, frozen=True):
    """The heads that this device can run, of a model that was split with `spillover lab split`."""

    folder: str
    """The split model's folder, as the cloud has it."""
    cuts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of cuts in its split.yaml; each head takes memory. The first is the usual one."""
    session: SessionConfig = SessionConfig()


class UplinkProtocol(enum.Enum):
    """What the server speaks: our own protocol, or the Open Inference Protocol v2 of Triton and others."""

    SPILLOVER = "spillover"
    OIP = "oip"


class TensorType(enum.Enum):
    """Datatype in which a network takes pictures, by the Open Inference Protocol's names."""

    FP32 = "FP32"
    FP16 = "FP16"
    UINT8 = "UINT8"


class OipConfig(Section, frozen=True):
    """The cloud's network: how its input is made here, and what its outputs mean."""

    manifest: str
    """The network's model.yaml, a folder that holds it, or the name of a prepared model."""
    input: str
    """Name of the input that takes the picture."""
    outputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of the outputs, in the order in which the manifest's decoder takes them."""
    datatype: TensorType = TensorType.FP32


class PictureVariant(Section, frozen=True):
    """A way to encode pictures; `fidelity` is the share of the cloud's gain that is then left."""

    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)]
    longest_side: Count | None = None
    square: bool = False
    """Only the middle square, for classifiers: a network with `resize: centre_crop` sees nothing else."""
    crop: bool = False
    """Only the region around the boxes in doubt, for detectors; `longest_side` is still the frame's."""
    fidelity: Share | None = None
    """Null is what `lab fit --variants` measured (in the gain file); else 1, and a crop is refused."""

    @property
    def name(self) -> str:
        """As decisions and records call it."""
        side = f"-{self.longest_side}" if self.longest_side else ""
        part = "-square" if self.square else "-crop" if self.crop else ""
        return f"picture-q{self.jpeg_quality}{side}{part}"

    def __post_init__(self) -> None:
        """Refuse both parts at once."""
        if self.square and self.crop:
            raise ValueError("square is for classifiers, crop for detectors: a variant has one of them")


class UplinkConfig(Section, frozen=True):
    """The way to the cloud."""

    address: str = "127.0.0.1:50051"
    protocol: UplinkProtocol = UplinkProtocol.SPILLOVER
    oip: OipConfig | None = None
    """Belongs to protocol `oip`; `model_name` is then the manifest's where it is empty."""
    tls: TlsConfig | None = None
    """Null is in the clear, which needs a loopback address or `allow_plaintext_network`."""
    token_file: str = ""
    """A file with this device's token; it is read again when it changes."""
    allow_plaintext_network: bool = False
    model_name: str = ""
    """Empty is the server's default model."""
    model_version: str = ""
    """Empty is the newest version that the server has loaded."""
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 85
    longest_side: Count | None = None
    """Shrink frames to this many pixels before they are sent; null never shrinks."""
    variants: tuple[PictureVariant, ...] = ()
    """Smaller pictures to choose from where the usual one would be late or is not paid for."""
    payload: PayloadKind = PayloadKind.PICTURE
    """Needs `split` unless it is `picture`."""
    split: SplitConfig | None = None
    max_in_flight: Count = 4
    late_answer_window_s: NotNegative = 2.0
    """How long after the deadline an answer is still wanted, as a revision."""
    keepalive_s: Annotated[float, msgspec.Meta(ge=10)] = 30.0
    reconnect_backoff_max_s: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 10.0
    breaker_failures: Count = 5
    """After so many calls in a row that failed or missed their deadline, calls pause."""
    breaker_pause_max_s: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 4.0
    """The longest pause between probes while the link is down."""
    max_message_bytes: Count = 4 * 1024 * 1024
    max_classes: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Ask for at most this many classes of a classification; 0 is all."""

    def __post_init__(self) -> None:
        """Refuse pictures in the clear by mistake, features without a head, tensors without a model."""
        check_host_port("address", self.address)
        if (self.protocol is UplinkProtocol.OIP) != (self.oip is not None):
            raise ValueError("protocol: oip and uplink.oip belong together")
        if self.oip and self.payload is not PayloadKind.PICTURE:
            raise ValueError(f"payload: {self.payload.value} needs uplink.protocol: spillover")
        if self.oip and self.variants:
            raise ValueError("variants: tensors have no smaller form; it needs uplink.protocol: spillover")
        if self.payload is not PayloadKind.PICTURE and self.split is None:
            raise ValueError(f"payload: {self.payload.value} needs uplink.split")
        if not (self.tls or self.allow_plaintext_network or is_loopback(self.address)):
            raise ValueError(
                f"address: {self.address} is beyond this machine: set uplink.tls, "
                "or uplink.allow_plaintext_network: true to send pictures in the clear"
            )
