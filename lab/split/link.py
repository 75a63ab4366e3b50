"""Predicted seconds of one frame over a link: send it as it is, send features, or keep it."""

from dataclasses import dataclass

from common.model.split import Cut, DeviceProfile


@dataclass(frozen=True, slots=True)
class Link:
    """A link with a bandwidth one way, in bits per second, and a round trip, in seconds."""

    bandwidth_bps: float
    round_trip_s: float

    def seconds(self, payload_bytes: float) -> float:
        """From the first byte sent to the (small) answer: serialisation and one round trip."""
        return payload_bytes * 8 / self.bandwidth_bps + self.round_trip_s


def split_seconds(cut: Cut, edge: DeviceProfile, cloud: DeviceProfile, link: Link) -> float:
    """Head on the edge, features over the link, tail in the cloud."""
    return edge.head_s[cut.name] + link.seconds(cut.feature_bytes) + cloud.tail_s[cut.name]


def picture_seconds(picture_bytes: float, cloud: DeviceProfile, link: Link) -> float:
    """The picture over the link, the whole network in the cloud."""
    return link.seconds(picture_bytes) + cloud.whole_s
