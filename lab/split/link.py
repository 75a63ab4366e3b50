"""Predicted seconds of one frame over a link: send it as it is, or send features."""

from spillover.common.model.split import Cut, DeviceProfile
from spillover.lab.shaper.link import Link


def transfer_seconds(link: Link, payload_bytes: float) -> float:
    """From the first byte sent to the (small) answer: serialisation and one round trip."""
    return payload_bytes / link.up_bytes_per_s + link.rtt_ms / 1000


def split_seconds(cut: Cut, edge: DeviceProfile, cloud: DeviceProfile, link: Link) -> float:
    """Head on the edge, features over the link, tail in the cloud."""
    return edge.head_s[cut.name] + transfer_seconds(link, cut.feature_bytes) + cloud.tail_s[cut.name]


def picture_seconds(picture_bytes: float, cloud: DeviceProfile, link: Link) -> float:
    """The picture over the link, the whole network in the cloud."""
    return transfer_seconds(link, picture_bytes) + cloud.whole_s
