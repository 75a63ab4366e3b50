"""Checks each camera: opens it, reads for a moment, and measures its rate."""

import time
from collections.abc import Iterator

from spillover.common.errors import ConfigError, SourceError
from spillover.edge.camera.open import is_live, open_camera
from spillover.edge.camera.source import Source, UnreadablePictureError
from spillover.edge.config import CameraConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning

READ_S = 3.0
_MOST = 150
"""Pictures that are read at most, and at most for `READ_S`."""
_SETTLED = 0.25
"""This share of them, the first, is not measured: a stream begins with what its sender has kept."""
_SLOW_SHARE = 0.8
"""A camera that gives less than this share of the configured rate is worth a look."""


def check_camera(config: CameraConfig, case: Case) -> Iterator[Finding]:
    """One camera. A live one that a running daemon holds is not opened: the daemon tells its rate."""
    held = is_live(config.source) and case.running is not None
    yield _of_daemon(case, config) if held else _opened(case, config)


def _of_daemon(case: Case, config: CameraConfig) -> Finding:
    assert case.running is not None  # noqa: S101 - asked before
    name = f"camera {config.camera_id}"
    found = next((one for one in case.running.cameras if one.name == config.camera_id), None)
    by = f"the daemon that runs (process {case.running.process_id}) has it open"
    if found is None:
        return warning(name, f"{by}, and does not know it", "restart the daemon with this file")
    if found.state != "ok":
        return failed(name, f"{by}: {found.state} {found.detail}".rstrip(), _CURE)
    rate = f"{found.frames_per_s:.1f} frames/s" if found.frames_per_s is not None else "no rate yet"
    case.camera_fps[config.camera_id] = found.frames_per_s or 0.0
    return ok(name, f"{by}: {rate}")


def _opened(case: Case, config: CameraConfig) -> Finding:
    name = f"camera {config.camera_id}"
    try:
        source = open_camera(config)
    except (SourceError, ConfigError) as error:
        figure = f"{case.config.key_of(config)}.{str(error).removeprefix('camera.')}"
        is_file = isinstance(error, ConfigError)
        return failed(name, figure, "check the file, and that this user may read it" if is_file else _CURE)
    try:
        return _measured(case, config, source)
    except SourceError as error:
        return failed(name, f"opened, then: {error}", _CURE)
    finally:
        source.close()


def _measured(case: Case, config: CameraConfig, source: Source) -> Finding:
    name, sizes, damaged = f"camera {config.camera_id}", "", 0
    times: list[float] = []
    end_s = time.monotonic() + READ_S
    while time.monotonic() < end_s and len(times) < _MOST:
        try:
            picture = source.read()
        except UnreadablePictureError:
            damaged += 1
            continue
        if picture is None:
            break
        height, width = picture.image.shape[:2]
        sizes = f"{width}x{height} pixels"
        times.append(time.monotonic())
    if not times:
        figure = f"opened, and gives no picture in {READ_S:g} s ({damaged} were damaged)"
        return failed(name, figure, _CURE)
    rate = _rate(times[int(_SETTLED * len(times)) :])
    if damaged:
        figure = f"{sizes}, {damaged} of {damaged + len(times)} pictures are damaged"
        return warning(name, figure, "check cable, network and power of the camera")
    if not source.live:
        stated = config.fixed_fps or source.fps or config.most_fps
        case.camera_fps[config.camera_id] = stated or 0.0
        own = f"{stated:.1f} frames/s" if stated else "no rate of its own"
        return ok(
            name, f"a file or folder: {sizes}, {own}" + (f", can be read at {rate:.0f}" if rate else "")
        )
    case.camera_fps[config.camera_id] = rate or 0.0
    figure = f"{sizes}, {rate:.1f} frames/s" if rate else f"{sizes}, one picture in {READ_S:g} s"
    wanted = config.fixed_fps
    if wanted and (rate or 0.0) < _SLOW_SHARE * wanted:
        text = f"{figure}, and camera.fps is {wanted:g}"
        return warning(name, text, "lower camera.fps, or set up the camera")
    return ok(name, figure)


def _rate(times: list[float]) -> float | None:
    span_s = times[-1] - times[0]
    return (len(times) - 1) / span_s if span_s > 0 else None


_CURE = "check camera.source, then the camera's cable, power, network and login, and who else uses it"
