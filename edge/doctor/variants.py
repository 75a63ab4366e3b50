"""Checks the smaller models that the ladder steps down to: they load, they fit, and they are quicker."""

import statistics
import time
from collections.abc import Iterator

import numpy as np

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.pictures import VisionModel
from spillover.edge.assembly.variants import open_variants, policies_for
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning

_RUNS = 10
_PICTURE = (480, 640, 3)


def check_variants(case: Case) -> Iterator[Finding]:
    """Nothing where there are none. Runs after the model was loaded."""
    if case.model is None or not case.config.model.variants:
        return
    try:
        models = (case.model, *open_variants(case.config, case.model))
        policies_for(case.config, models)
    except (ConfigError, ModelError) as error:
        name = "model" if isinstance(error, ModelError) else "variants"  # as the start's exit code has it
        yield failed(name, str(error), "change the key that this line names")
        return
    took_s = [median_s(model) for model in models]
    figure = ", ".join(
        f"{model.model_id} {one_s * 1000:.1f} ms" for model, one_s in zip(models, took_s, strict=True)
    )
    if took_s != sorted(took_s, reverse=True):
        yield warning(
            "variants",
            f"a smaller model takes longer than the one before it: {figure}",
            "order them by their time, or leave out those that save none",
        )
    else:
        yield ok("variants", figure)


def median_s(model: VisionModel) -> float:
    """Seconds that a frame takes, the median of a few."""
    picture = np.random.default_rng(0).integers(0, 255, _PICTURE, np.uint8)
    taken_s = []
    for _ in range(_RUNS):
        began_s = time.perf_counter()
        model.predict(picture)
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s)
