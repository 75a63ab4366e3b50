"""Checks what evidence needs beside its folder: events to keep pictures of, and what makes clips."""

from collections.abc import Iterator

import numpy as np

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.images import encode_jpeg
from spillover.edge.assembly.evidence import check_encoder
from spillover.edge.config import Mode, Occasion
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning
from spillover.edge.evidence.child import clip_encoder

_PICTURE = (480, 640, 3)


def check_evidence(case: Case) -> Iterator[Finding]:
    """What is listed can happen, and a clip can be made: one is, in memory."""
    config = case.config
    if (evidence := config.evidence) is None:
        return
    kept = ", ".join([one.value for one in evidence.snapshots] + ["clips of events"] * bool(evidence.clip))
    never = {
        Occasion.EVENTS: not config.has_events,
        Occasion.OFFLOADS: config.mode is Mode.EDGE_ONLY,
        Occasion.DISAGREEMENTS: config.mode is Mode.EDGE_ONLY,
        Occasion.AUDITS: config.mode is not Mode.HYBRID,
    }
    if idle := [one.value for one in evidence.snapshots if never[one]]:
        figure = f"evidence.snapshots: there are no {', no '.join(idle)} with this configuration"
        yield warning("evidence", figure, "leave them out, or set `events` or `mode`")
    if evidence.clip is not None:
        try:
            check_encoder()
            with clip_encoder() as encoder:
                encoder.feed(0.0, encode_jpeg(np.zeros(_PICTURE, np.uint8), 80).data)
                clip = encoder.finish()
        except ConfigError as error:
            cause, _, command = str(error).rpartition(": ")
            yield failed("evidence", cause, command)
            return
        except UnavailableError as error:
            yield failed("evidence", f"evidence.clip: no clip can be made: {error}", "install PyAV anew")
            return
        kept += f"; a clip of one picture has {len(clip)} bytes"
    yield ok("evidence", kept)
