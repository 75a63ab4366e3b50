"""`POST /api/v1/infer`: what this device's model says of a JPEG that a program sends.

It runs on the request's own thread, one picture at a time and at a lower priority than the pipeline, whose
order it does not touch: a model in memory may be run by several threads.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import MappingProxyType
from wsgiref.types import StartResponse, WSGIEnvironment

import cv2

from spillover.common.errors import Cause, InvalidInputError, ModelError, SlowCallerError, TooLargeError
from spillover.common.images import decode_jpeg
from spillover.common.net.http import read_body
from spillover.common.types import Action, AnsweredBy, Decision, Result, Timings
from spillover.edge.inference.predictor import Predictor
from spillover.edge.inference.reported import ReportFilter
from spillover.edge.runtime.process import step_back
from spillover.edge.sinks.record import Encode
from spillover.edge.web.answers import JSON, OnRefused, Query, refuse, send

MAX_BYTES = 8 * 1024 * 1024
"""The longest JPEG."""
MAX_PIXELS = 12_500_000
"""The largest picture, which takes 37 MB in memory; read from its header before it is decoded."""
MAX_WAITING = 2
"""Pictures that are being received or looked at; one more is refused."""
TURN_S = 5.0
"""How long a picture waits for the one before it."""
_STATUS = MappingProxyType(
    {TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE, SlowCallerError: HTTPStatus.REQUEST_TIMEOUT}
)
NAME = "infer"
"""Stands for the camera in the answer."""


class Inference:
    """Answers pictures by what `predictor` gives, which several threads may use.

    `report` says which boxes are told.
    """

    def __init__(
        self,
        predictor: Callable[[], Predictor],
        report: Callable[[], ReportFilter],
        encode: Encode,
        on_refused: OnRefused,
    ) -> None:
        self._predictor = predictor
        self._report = report
        self._encode = encode
        self._on_refused = on_refused
        self._places = threading.BoundedSemaphore(MAX_WAITING)
        self._turn = threading.Lock()
        self._numbers = itertools.count(1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse, _: Query) -> Iterable[bytes]:
        """The answer, in the form of a sink's record."""
        result = None
        if self._places.acquire(blocking=False):
            try:
                step_back()
                result = self._answer(read_body(environ, MAX_BYTES))
            except (InvalidInputError, SlowCallerError) as error:
                self._on_refused(error.cause or Cause.INVALID)
                return refuse(start_response, _STATUS.get(type(error), HTTPStatus.BAD_REQUEST), str(error))
            except (ModelError, MemoryError, cv2.error) as error:
                why = f"the model fails: {error or 'out of memory'}"
                return refuse(start_response, HTTPStatus.INTERNAL_SERVER_ERROR, why)
            finally:
                self._places.release()
        if result is None:
            self._on_refused(Cause.QUEUE_FULL)
            why = f"{MAX_WAITING} pictures are in work already; send yours again"
            return refuse(start_response, HTTPStatus.SERVICE_UNAVAILABLE, why, [("Retry-After", "1")])
        return send(environ, start_response, JSON, self._encode(result))

    def _answer(self, jpeg: bytes) -> Result | None:
        """None when the pictures before it take too long."""
        came_s, came_unix_s = time.monotonic(), time.time()
        if not self._turn.acquire(timeout=TURN_S):
            return None
        try:
            began_s = time.monotonic()
            image = decode_jpeg(jpeg, MAX_PIXELS)
            decoded_s = time.monotonic()
            predictor = self._predictor()
            prediction, steps = predictor.predict(image)
        finally:
            self._turn.release()
        number = next(self._numbers)
        return Result(
            frame_id=f"{NAME}-{number}",
            camera_id=NAME,
            sequence=number,
            captured_unix_s=came_unix_s,
            source="",
            answered_by=AnsweredBy.EDGE,
            prediction=self._report().reported(prediction),
            model=predictor.model_id,
            decision=Decision(Action.KEEP, "asked for by a program"),
            timings=Timings(
                capture_s=decoded_s - began_s,
                queue_s=began_s - came_s,
                preprocess_s=steps.preprocess_s,
                infer_s=steps.infer_s,
                decode_s=steps.decode_s,
                total_s=time.monotonic() - came_s,
            ),
        )
