"""The model that answers first."""

from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.common.model.session_config import SessionConfig
from spillover.edge.config.kinds import Share


class MultiViewConfig(Section, frozen=True):
    """Look again, for better answers and judgement: classifiers where in doubt, detectors always."""

    below: Share = 0.95
    """Pictures whose best class has less probability are looked at again."""
    zoom: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """A classifier's second look sees the middle, this share of each side."""


class ModelConfig(Section, frozen=True):
    """The model that answers every frame first."""

    folder: str
    """A model folder, or the name of one below the cache folder of prepared models."""
    report_threshold: Share | None = None
    """Boxes below are not reported, though the policy sees them; null is the model's own threshold."""
    session: SessionConfig = SessionConfig()
    multi_view: MultiViewConfig | None = None
    """Null looks once."""
