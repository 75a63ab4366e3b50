"""One frame with what was said of it."""

from dataclasses import replace

from spillover.common.tasks import spec_for
from spillover.common.tasks.drawing import WHITE, Colour, Pen, caption, draw_text
from spillover.common.types import Image
from spillover.edge.sinks.record import Record
from spillover.lab.records import prediction_of

COLOURS: dict[str, Colour] = {"edge": (0, 140, 255), "cloud": (60, 180, 40), "edge_degraded": (40, 40, 230)}
"""BGR, by who answered."""


def draw(image: Image, record: Record) -> Image:
    """A copy of a BGR frame with boxes (or best class), labels, and a line that says who answered and why."""
    picture = image.copy()
    prediction = prediction_of(record)
    task = spec_for(prediction)
    names = {row.class_id: row.label for row in getattr(record, task.record_key)}

    def name(class_id: int) -> str:
        return names.get(class_id) or str(class_id)

    # Letters grow with the picture, so that they can be read at whatever size it is shown.
    pen = Pen(COLOURS.get(record.answered_by, WHITE), scale=max(0.35, min(1.2, picture.shape[0] / 1100)))
    task.draw(picture, prediction, name, pen)
    words = "  ".join(filter(None, [headline(record), caption(prediction, name)]))
    draw_text(picture, (0, 0), words, replace(pen, scale=1.2 * pen.scale))
    return picture


def headline(record: Record) -> str:
    """Number, ending, reason and model."""
    late = " (late)" if record.revision else ""
    return f"#{record.sequence}  {record.answered_by}{late}  {record.decision.reason}  {record.model}"
