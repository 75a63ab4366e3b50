"""How ONNX Runtime runs a model; apart from the session, so that reading a configuration loads no runtime."""

from typing import Annotated

import msgspec

from spillover.common.config import Section


class SessionConfig(Section, frozen=True):
    """How ONNX Runtime runs a model."""

    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """Threads inside one operator; 0: all cores."""
    providers: tuple[str, ...] = ("auto",)
    """Execution providers in order of preference; `auto`: CUDA if this onnxruntime has it, else CPU."""
    warm_up_runs: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3
    """Runs on an empty picture before the first real one."""
