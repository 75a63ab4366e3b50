"""Bytes that calls put on the wire, beside what a byte budget is charged for them.

A daemon in a network namespace sends small pictures to a server here, over a link whose interface counts. Of
two runs with unlike numbers of calls the difference is taken, so that making the connection is no part of it:
headers are those of a connection that is warm (HPACK's table is filled).
"""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spillover.cloud.security.authority import CA_CERTIFICATE, Authority
from spillover.cloud.security.builders import SERVER, Subject
from spillover.common.errors import SpilloverError
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.security.files import write_private, write_public
from spillover.edge.config import UplinkConfig
from spillover.edge.link.byte_budget import FRAMING, wire_bytes
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.sinks.record import Record
from spillover.edge.uplink.protocol import SpilloverWire
from spillover.lab.daemons import cloud_running, edge_running
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.processes import finish
from spillover.lab.shaper.kernel import KernelLink, kernel_link, why_not
from spillover.lab.shaper.link import Link
from spillover.lab.terminal import Progress

_CALLS = (20, 100)
_LIMIT_S = 600.0
_ETHERNET_BYTES = 14
"""Of each packet; the interface counts them, a modem's bill does not."""
_SIDES = (64, 416)
_QUALITY = 60
_DEVICE_ID, _BOOT_ID = "camera-1", "0123456789ab"


@dataclass(frozen=True, slots=True)
class WireRow:
    """A call on a warm connection."""

    tls: bool
    payload_bytes: float
    message_bytes: float
    """Of the request; a byte budget is charged for these."""
    boxes: float
    """In an answer."""
    up_bytes: float
    """IP packets from edge to cloud, headers and acknowledgements included."""
    down_bytes: float
    packets: float
    """Both directions."""
    charged_bytes: float

    @property
    def true_charge_bytes(self) -> float:
        """What would have to be charged for a call beside 5 % of its message."""
        return self.up_bytes + self.down_bytes - (1 + FRAMING) * self.message_bytes


def wire_rows(edge: Path, cloud: Path, clip: Clip, out: Path, progress: Progress) -> list[WireRow]:
    """Send pictures of a few sizes, in the clear and by TLS.

    Raises:
        SpilloverError: this machine has no namespaces or no right to make them, or a process failed.
    """
    if why := why_not():
        raise SpilloverError(f"bytes on the wire are not counted: {why}")
    runs = [(tls, side) for tls in (False, True) for side in _SIDES]
    rows = []
    for tls, side in progress.track(runs, "bytes on the wire"):
        folder = out / f"wire-{'tls' if tls else 'plain'}-{side}"
        few, many = (_run(edge, cloud, clip, folder / str(calls), tls, side, calls) for calls in _CALLS)
        rows.append(_row(tls, few, many))
    return rows


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the edge's interface saw, and what its payloads were."""

    calls: int
    payload_bytes: int
    message_bytes: int
    boxes: int
    up_bytes: int
    up_packets: int
    down_bytes: int
    down_packets: int


def _row(tls: bool, few: _Counted, many: _Counted) -> WireRow:
    calls = many.calls - few.calls

    def a_call(name: str) -> float:
        return float(getattr(many, name) - getattr(few, name)) / calls

    up, down = (a_call(f"{way}_bytes") - _ETHERNET_BYTES * a_call(f"{way}_packets") for way in ("up", "down"))
    message = a_call("message_bytes")
    return WireRow(
        tls,
        a_call("payload_bytes"),
        message,
        a_call("boxes"),
        up,
        down,
        a_call("up_packets") + a_call("down_packets"),
        wire_bytes(message),
    )


def _run(edge: Path, cloud: Path, clip: Clip, out: Path, tls: bool, side: int, calls: int) -> _Counted:
    out.mkdir(parents=True, exist_ok=True)
    pictures = out / "pictures"
    _write_pictures(clip, pictures, side, calls)
    with kernel_link(Link()) as link, _server(cloud, link, out, tls=tls) as (address, uplink):
        config = {
            "camera": {"source": str(pictures), "pace": "fast"},
            "model": {"folder": str(edge)},
            "device_id": _DEVICE_ID,
            "mode": "cloud_only",
            "deadline_s": _LIMIT_S,
            "uplink": {"address": address, "keepalive_s": 86_400, "jpeg_quality": _QUALITY, **uplink},
        }
        before = _counters(link)
        with edge_running(config, out, "edge", prefix=link.prefix) as daemon:
            finish(daemon.process, daemon.log, limit_s=_LIMIT_S)
            records = daemon.records()
        after = _counters(link)
    called = [record for record in records if record.answered_by == "cloud"]
    if len(called) != calls:
        raise SpilloverError(f"{len(called)} of {calls} frames were answered by the cloud: see {out}")
    return _Counted(
        calls,
        sum(record.payload_bytes for record in called),
        sum(map(_message_bytes, called)),
        sum(len(record.boxes or ()) for record in called),
        *(now - then for now, then in zip(after, before, strict=True)),
    )


def _message_bytes(record: Record) -> int:
    """Of the request that brought this answer."""
    wire = SpilloverWire(UplinkConfig(), _DEVICE_ID)
    payload = EncodedImage(bytes(record.payload_bytes), FrameTransform.resize((1, 1), (1, 1)))
    frame = EncodedFrame(
        record.frame_id, record.camera_id, _BOOT_ID, record.sequence, record.captured_unix_s, payload
    )
    return wire.request(frame, _LIMIT_S).ByteSize()


def _write_pictures(clip: Clip, folder: Path, side: int, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for number, image in zip(range(count), clip.frames(), strict=False):
        small = cv2.resize(image, (side, side * 3 // 4), interpolation=cv2.INTER_AREA).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:04}.png"), small)


@contextlib.contextmanager
def _server(
    cloud: Path, link: KernelLink, out: Path, *, tls: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A server on this end of the link; its address, and what `uplink` says beside it."""
    models = {"repository": str(cloud.parents[1]), "load": [cloud.parent.name]}
    security: dict[str, Any] = {"allow_anonymous_network": True, "allow_plaintext_network": not tls}
    uplink: dict[str, Any] = {"allow_plaintext_network": True}
    if tls:
        authority = Authority.create(out / "pki", "benchmark")
        certificate, key = authority.issue(Subject("cloud", SERVER, (link.near_host,)), 1)
        files = {"certificate": out / "cloud.crt", "key": out / "cloud.key"}
        write_public(files["certificate"], certificate)
        write_private(files["key"], key)
        security["tls"] = {name: str(path) for name, path in files.items()}
        uplink = {"tls": {"ca": str(out / "pki" / CA_CERTIFICATE)}}
    config = {"listen": f"{link.near_host}:0", "models": models, "security": security}
    with cloud_running(config, out) as server:
        yield server.address, uplink


def _counters(link: KernelLink) -> tuple[int, int, int, int]:
    """Bytes and packets sent, bytes and packets received by the far end's interface."""
    done = subprocess.run([*link.prefix, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, _, columns = line.partition(":")
        if name.strip().startswith("sp"):
            figures = [int(column) for column in columns.split()]
            return figures[8], figures[9], figures[0], figures[1]
    raise SpilloverError(f"the link has no interface:\n{done.stdout}")
