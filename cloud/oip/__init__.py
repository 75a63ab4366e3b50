"""The Open Inference Protocol, version 2, as tritonclient and perf_analyzer speak it."""

from spillover.cloud.oip.servicer import OpenInferenceServicer

__all__ = ["OpenInferenceServicer"]
