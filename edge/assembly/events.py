"""Builds what tells the events of a camera's objects."""

from collections.abc import Iterable, Sequence

import numpy as np

from spillover.common.errors import ConfigError
from spillover.common.model.classes import class_ids
from spillover.common.model.pictures import VisionModel
from spillover.edge.config import CameraConfig, EdgeConfig, EventsConfig, LineConfig, ZoneConfig
from spillover.edge.events.reporter import ObjectEvents, Tell
from spillover.edge.events.values import Direction, Line, Rules, Zone


def build_events(
    config: EdgeConfig, camera: CameraConfig, model: VisionModel, tell: Tell
) -> ObjectEvents | None:
    """What tells the events of `camera`, by its own section or the device's; None where there is none.

    Raises:
        ConfigError: the model gives no boxes, or does not have a named class.
    """
    if (events := camera.events or config.events) is None:
        return None
    own = f"cameras[{config.cameras.index(camera)}]" if config.cameras else "camera"
    key = f"{own}.events" if camera.events else "events"
    if not model.folder.task.locates:
        raise ConfigError(f"{key}: the edge's model gives no boxes; use a detector, or remove this section")
    labels, last_answer_s = model.folder.labels, config.deadline_s + config.uplink.late_answer_window_s
    rules = rules_for(events, labels, model.class_count, key, last_answer_s)
    return ObjectEvents(camera.camera_id, rules, labels, tell)


def rules_for(
    config: EventsConfig, labels: Sequence[str], class_count: int | None, key: str, settle_s: float = 0.0
) -> Rules:
    """The rules with classes as numbers.

    Raises:
        ConfigError: the model does not have a named class. The text begins with `key`.
    """

    def numbers(names: Iterable[str | int], of: str) -> frozenset[int]:
        return frozenset(class_ids(names, labels, class_count, f"{key}.{of}classes"))

    def zone(index: int, one: ZoneConfig) -> Zone:
        return Zone(one.name, np.array(one.polygon), numbers(one.classes, f"zones[{index}]."), one.dwell_s)

    def line(index: int, one: LineConfig) -> Line:
        start, end = np.array(one.points)
        told = Direction if one.direction == "both" else (Direction(one.direction),)
        return Line(one.name, start, end, numbers(one.classes, f"lines[{index}]."), frozenset(told))

    return Rules(
        zones=tuple(zone(index, one) for index, one in enumerate(config.zones)),
        lines=tuple(line(index, one) for index, one in enumerate(config.lines)),
        classes=numbers(config.classes, ""),
        min_size=config.min_size,
        min_age_s=config.min_age_s,
        settle_s=settle_s,
    )
