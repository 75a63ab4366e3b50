"""The keys of the local model, which answers first."""

from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.common.model.session_config import SessionConfig
from spillover.edge.config.kinds import Share


class MultiViewConfig(Section, frozen=True):
    """Run the model on several views of a picture: a classifier when it is in doubt, a detector always."""

    below: Share = 0.95
    """A classifier looks again when its best class has less probability than this."""
    zoom: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """The second view of a classifier is the middle of the picture, this share of each side."""


class VariantConfig(Section, frozen=True):
    """A smaller model of the same task and labels, for devices that are too hot for the model itself."""

    folder: str
    """A folder with `model.onnx` and `model.yaml`, or the name of a prepared model."""
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    """In place of `model.session.threads`; null: the same."""
    gain_file: str = ""
    """In place of `policy.gain_file`: what `lab fit` wrote for this model; required with expected_gain."""


class ModelConfig(Section, frozen=True):
    """The model that answers every frame first."""

    folder: str
    """A folder with `model.onnx` and `model.yaml`, or the name of a prepared model."""
    report_threshold: Share | None = None
    """Detection: boxes below are not reported; the policy sees them. Null: the model's own
    (`report_threshold` in model.yaml, or else its `confidence_threshold`). If model.yaml has a `calibration`,
    both sides count as on one scale, and boxes of the cloud's answers are cut at this confidence too; else
    all that the cloud answers are kept."""
    class_thresholds: dict[str | int, Share] = msgspec.field(default_factory=dict)
    """Detection: `report_threshold` of single classes, by label or number, as in {person: 0.6}. The policy's
    scores go by `report_threshold`."""
    classes: tuple[str | int, ...] = ()
    """Detection: labels or class numbers that count, as in [person, car]; empty: all. Others are not
    reported, whoever answers, nor tracked, nor a reason to send a frame; `redaction` hides its own all the
    same."""
    session: SessionConfig = SessionConfig()
    """How ONNX Runtime runs the model."""
    variants: Annotated[tuple[VariantConfig, ...], msgspec.Meta(max_length=3)] = ()
    """Smaller models, the largest first, at most 3. `health.ladder` steps down to them, one a step from
    step 3 on, and back. All are loaded at the start and stay in memory."""
    multi_view: MultiViewConfig | None = None
    """Look at a picture more than once for better answers; null: once."""
