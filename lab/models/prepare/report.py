"""What `lab import` tells of a model folder that it has written."""

from collections.abc import Iterator

from spillover.common.model.manifest import Colour, Element, Manifest
from spillover.common.tasks import spec_of
from spillover.lab.models.prepare.network import described
from spillover.lab.models.prepare.presets import CLASSIFIER, PRESETS
from spillover.lab.models.prepare.recognise import recognise
from spillover.lab.models.prepare.wrap import Wrapped


def report(wrapped: Wrapped, *, guessed: bool, calibrates: bool) -> Iterator[str]:
    """Lines for a person: the preset and why, how pictures are prepared, what boxes and classes mean.

    `guessed`: nobody has named the preset. `calibrates`: the confidences will be calibrated next.
    """
    manifest, preset = wrapped.manifest, PRESETS[wrapped.preset]
    how = f"guessed from {wrapped.outputs}; --preset names another" if guessed else f"gives {wrapped.outputs}"
    yield f"Preset: {wrapped.preset} ({preset.description}), {how}"
    other = recognise(wrapped.network, wrapped.outputs)
    if other is not None and PRESETS[other] is not preset:
        yield f"  It looks like {other}: --preset {other}"
    yield f"Pictures: {described(manifest.own_input)}"
    if guessed and wrapped.preset != CLASSIFIER and not spec_of(manifest.task).calibrates:
        yield from _doubts(manifest)
    names = (
        f": {wrapped.labels[0]} ... {wrapped.labels[-1]}" if wrapped.labels else " without names (--labels)"
    )
    yield f"Classes: {wrapped.class_count or 'an unknown number'}{names}"
    if spec_of(manifest.task).calibrates and not calibrates:
        yield from _of_boxes(manifest)


def _doubts(manifest: Manifest) -> Iterator[str]:
    if manifest.own_input.element is Element.FLOAT32 and manifest.own_input.colour is not Colour.GREY:
        yield "  How a classifier's pictures are normalised is not in its file: compare it with its training."


def _of_boxes(manifest: Manifest) -> Iterator[str]:
    least = manifest.output.reported_from
    yield f"Boxes: reported from confidence {least:g} (output.report_threshold of model.yaml)"
    yield (
        "  Its confidences are not calibrated, so the boxes may jump where edge and cloud take turns: "
        "import both with --data, or fit the edge to the cloud with `spillover lab fit --calibrate`."
    )
