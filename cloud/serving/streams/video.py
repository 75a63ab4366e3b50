"""One stream of video: a decoder, how far it has come, and the pictures that calls may still ask for."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from spillover.cloud.serving.streams.bitstream import check_packet
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.common.errors import InvalidInputError
from spillover.common.video.h264 import Decoder, padded_pixels
from spillover.common.video.planes import Planes, digest_of_planes
from spillover.common.wire.conversion import Video

RING = 4
"""Pictures that are kept for repeated and overtaken calls."""
_BASE_BYTES, _PIXEL_BYTES = 800_000, 12
"""What a stream takes at most: `python -m benchmarks decode-streams` prints it beside the memory of many.

A decoder takes .65 MB and, with the longest packets that `bitstream` lets through, 6 bytes a pixel of sides
that are padded, of ordinary ones 4.6. Each picture of the ring takes 1.5.
"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture that a call asked for, and how many were decoded on the way to it, itself included."""

    planes: Planes
    count: int


@dataclass(slots=True)
class _Run:
    """What was decoded from one key on: the packets `key` to `number`."""

    decoder: Decoder
    sides: tuple[int, int]
    key: int
    number: int
    ring: OrderedDict[int, Planes] = field(default_factory=OrderedDict)

    def goes_on_with(self, video: Video) -> bool:
        """Whether `video` has the packet that comes next, and is of this key."""
        position = video.position
        of_key = video.first == self.key if position.is_key else position.reference >= self.key
        return of_key and video.first <= self.number + 1 and self.sides == (video.width, video.height)

    def decode(self, packet: bytes) -> None:
        """Decode the next packet. Raises InvalidInputError."""
        check_packet(packet, *self.sides, key=self.number < self.key)
        planes = self.decoder.decode(packet)
        self.number += 1
        self.ring[self.number] = planes
        if len(self.ring) > RING:
            self.ring.popitem(last=False)


class VideoStream:
    """Decodes the payloads of one stream. Thread-safe: they are decoded one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: _Run | None = None

    @staticmethod
    def bytes_of(width: int, height: int) -> int:
        """What a stream of such pictures takes at most."""
        return _BASE_BYTES + _PIXEL_BYTES * padded_pixels(width, height)

    def missing(self, video: Video) -> int:
        """How many packets of `video` are still to be decoded, as it looks now."""
        run, number = self._run, video.position.number
        if run is None or not run.goes_on_with(video):
            return len(video.packets)
        return max(0, number - run.number)

    def decode(self, video: Video) -> Decoded:
        """The picture of `video`, which has the digest that its sender says.

        Raises:
            ReferenceLostError: it cannot be had from what is here. After a wrong digest or a codec's error
                nothing is here.
        """
        number = video.position.number
        with self._lock:
            run = self._run_for(video)
            before = run.number
            try:
                for packet in video.packets[len(video.packets) - max(0, number - before) :]:
                    run.decode(packet)
            except InvalidInputError as error:
                raise LostError(Loss.CODEC, f"number {run.number + 1} of the stream: {error}") from error
            finally:
                if run.number < number:  # whatever it was, the decoder may be ahead of its number
                    self._run = None
            if (planes := run.ring.get(number)) is None:
                raise LostError(Loss.PASSED, f"number {number} of the stream has passed")
            if digest_of_planes(planes) != video.position.digest:
                self._run = None
                raise LostError(Loss.DIGEST, f"number {number} of the stream is not what its sender has")
            return Decoded(planes, run.number - before)

    def _run_for(self, video: Video) -> _Run:
        """What `video` belongs to: what is here, or begun anew with its key. Raises ReferenceLostError."""
        run, position, sides = self._run, video.position, (video.width, video.height)
        if run and (position.number <= run.number or run.goes_on_with(video)):
            return run
        if position.is_key:
            self._run = _Run(Decoder(*sides), sides, video.first, video.first - 1)
            return self._run
        if run and run.sides != sides:
            raise LostError(Loss.SIDES, f"pictures of the stream have sides {run.sides}, not {sides}")
        raise LostError(Loss.GAP, f"number {position.reference} of the stream was not decoded here")
