"""The streams of all callers: found, begun, counted, and lent to the calls that need them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.models.vision import Undecoded, Vision
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.streams.bitstream import MACROBLOCK, macroblocks
from spillover.cloud.serving.streams.features import FeatureStream
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.cloud.serving.streams.table import Owner, Refusal, RefusedError, StreamTable
from spillover.cloud.serving.streams.video import VideoStream
from spillover.cloud.telemetry.metrics import StreamMetrics
from spillover.common.coding import StreamPosition
from spillover.common.errors import ConfigError, InvalidInputError, TooLargeError
from spillover.common.log import Throttled, printable
from spillover.common.model.pictures import Prepared
from spillover.common.video.h264 import Decoder, load_codec
from spillover.common.video.planes import picture_of
from spillover.common.wire.conversion import Features, Video

LONGEST = 4
"""One call decodes at most so many times the pixels of the largest picture."""
_MAX_CALLER = 64

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class _Key:
    """Names a stream: nobody reaches another's, and none is taken for one of another coding."""

    coding: type
    head_sha256: str
    """Of features, the head that makes them; a cut's symbols are charged by its size. Empty for video."""
    is_proven: bool
    device: str
    stream_id: bytes


class Streams:
    """Keeps streams within `limit_bytes`. Belongs to the event loop; what it lends goes to threads.

    Where `has_codec` is false it takes features alone.
    """

    def __init__(
        self,
        limit_bytes: int,
        has_codec: bool,
        metrics: StreamMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table: StreamTable[_Key, object] = StreamTable(limit_bytes)
        self._has_codec = has_codec
        self._stopped = False
        self._metrics = metrics
        self._clock = clock
        self._log = Throttled("streams")
        for loss in Loss:  # all there from the start: a series that appears late hides its first increase
            metrics.lost.labels(loss.value)
        for reason in Refusal:
            metrics.refused.labels(reason.value)
        metrics.watch(self._by_state, lambda: self._table.used, limit_bytes)

    def stop(self) -> None:
        """Keep nothing any longer, and begin nothing more."""
        self._stopped = True
        self._table.clear()

    @contextmanager
    def looking(self, video: Video, call: Call, vision: Vision) -> Iterator[Undecoded]:
        """`video` not decoded yet; its stream is kept while inside.

        Raises:
            TooLargeError: more pixels than allowed.
            StreamRefusedError: it is a key, and no stream may begin now.
            ReferenceLostError: it is no key, and its stream is not held; also inside, by what is decoded.
        """
        most = vision.max_pixels
        if video.width * video.height > most:
            raise TooLargeError(
                f"video is {video.width}x{video.height} pixels; the limit is {most} pixels in all"
            )
        with self._counting():
            if not self._has_codec:
                raise RefusedError(Refusal.CODEC, "this server has no codec for video; its log says why")
            size = VideoStream.bytes_of(video.width, video.height)
            with self._kept(VideoStream, "", video.position, call, size) as stream:
                pixels = MACROBLOCK**2 * macroblocks(video.width, video.height)
                cost = pixels * max(1, stream.missing(video))
                if cost > LONGEST * most:
                    raise LostError(Loss.LONG, f"{len(video.packets)} packets of this size are too many")
                yield Undecoded(
                    cost=cost,
                    measure=lambda: max(cost, pixels * stream.missing(video)),
                    prepare=lambda: self._prepare(stream, video, vision),
                )

    @contextmanager
    def looking_at_features(self, features: Features, call: Call, tail: TailAdapter) -> Iterator[Undecoded]:
        """`features` not decoded yet; their stream, if they are in one, is kept while inside.

        Raises:
            StreamRefusedError: they are a key, and no stream may begin now.
            ReferenceLostError: what they are coded against is not held; also inside.
        """
        position = features.position
        if position is None:
            yield tail.look(features.data)
            return
        with (
            self._counting(),
            self._kept(
                FeatureStream, features.head_sha256, position, call, FeatureStream.bytes_of(tail)
            ) as stream,
        ):
            yield tail.looking(lambda: stream.decode(features.data, position, tail))

    def _by_state(self) -> dict[str, float]:
        busy = self._table.busy
        return {"busy": busy, "idle": len(self._table) - busy}

    def _prepare(self, stream: VideoStream, video: Video, vision: Vision) -> Prepared:
        """On a thread."""
        decoded = stream.decode(video)
        self._metrics.pictures.inc(decoded.count)
        self._metrics.unasked.inc(max(0, decoded.count - 1))
        return vision.prepare_picture(picture_of(decoded.planes))

    @contextmanager
    def _kept(
        self, coding: type[S], head_sha256: str, position: StreamPosition, call: Call, size: int
    ) -> Iterator[S]:
        """The stream of `position`, begun or found, which may take `size` bytes."""
        key = _Key(coding, head_sha256, call.is_proven, call.device, position.stream_id)
        owner = Owner(call.holder, call.is_proven)
        useless = False
        stream = self._begun(key, owner, size) if position.is_key else self._table.enter(key, self._clock())
        if not isinstance(stream, coding):
            raise LostError(Loss.UNKNOWN, "the stream is not held here")
        try:
            yield stream
        except LostError as error:
            useless = error.loss.is_final
            if useless:
                caller = printable(call.device, _MAX_CALLER)
                self._log.warning("stream dropped", cause=error.loss.value, caller=caller, because=str(error))
            raise
        finally:
            self._table.leave(key, self._clock(), useless=useless)

    def _begun(self, key: _Key, owner: Owner, size: int) -> object:
        self._metrics.keys.inc()
        if self._stopped or not self._table.total:
            raise RefusedError(Refusal.OFF, "this server keeps no streams")
        stream, dropped = self._table.begin(key, owner, size, self._clock(), key.coding)
        self._metrics.dropped.inc(dropped)
        return stream

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count what is lost or refused inside."""
        try:
            yield
        except LostError as error:
            self._metrics.lost.labels(error.loss.value).inc()
            raise
        except RefusedError as error:
            self._metrics.refused.labels(error.reason.value).inc()
            raise


def fault_of_video() -> str:
    """Why this server decodes no video; empty where it does."""
    try:
        load_codec()
        Decoder(MACROBLOCK, MACROBLOCK)
    except (ConfigError, InvalidInputError) as error:
        return str(error)
    return ""
