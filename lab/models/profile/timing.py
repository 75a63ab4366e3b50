"""Seconds of whole runs, interleaved so that disturbances of the machine affect all of them alike."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.model.manifest import ModelFolder
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import DeviceProfile, SplitPlan, head_path, tail_path


def profile_plan(
    folder: ModelFolder, plan: SplitPlan, device: str, threads: int, rounds: int
) -> DeviceProfile:
    """Time the whole network and every cut of `plan` on this device.

    Raises:
        ModelError: a head or tail is missing or does not run.
    """
    runs = {"whole": network_run(folder.onnx_path, threads)}
    for cut in plan.cuts:
        runs[f"head {cut.name}"] = network_run(head_path(folder.path, cut.name), threads)
        runs[f"tail {cut.name}"] = network_run(tail_path(folder.path, cut.name), threads)
    seconds = interleaved_medians(runs, rounds)
    return DeviceProfile(
        device=device or platform.node() or platform.machine(),
        whole_s=seconds["whole"],
        head_s={cut.name: seconds[f"head {cut.name}"] for cut in plan.cuts},
        tail_s={cut.name: seconds[f"tail {cut.name}"] for cut in plan.cuts},
        head_sha256={cut.name: cut.head_sha256 for cut in plan.cuts},
    )


def network_run(path: Path, threads: int) -> Callable[[], object]:
    """A call that runs the network at `path` once, on zeros and one picture. Raises ModelError."""
    runtime = open_runtime(path, SessionConfig(threads=threads))
    for spec in runtime.inputs:
        if spec.dtype not in {np.dtype(np.float32), np.dtype(np.uint8)}:
            raise ModelError(f"{path}: input {spec.name} is {spec.dtype}, neither float32 nor uint8")
    inputs = [spec.zeros(tuple(1 if axis < 0 else axis for axis in spec.shape)) for spec in runtime.inputs]
    return lambda: runtime.run(inputs)


def interleaved_medians(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call."""
    return {name: median(seconds) for name, seconds in interleaved_seconds(runs, rounds).items()}


def interleaved_seconds(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each call in each round; every round makes each call once, every other one in reverse order.

    One round before the first warms up. `time.thread_time` as the clock leaves out what others take of the
    processor, where a call computes on its own thread alone.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in runs if number % 2 else reversed(list(runs)):
            started = clock()
            runs[name]()
            if number:
                times[name].append(clock() - started)
    return times


def merged(plan: SplitPlan, profiles: Sequence[DeviceProfile]) -> tuple[DeviceProfile, ...]:
    """The plan's profiles with `profiles` added; a device that is measured again is replaced.

    Raises:
        ModelError: a profile is of other cuts than the plan's.
    """
    heads = {cut.name: cut.head_sha256 for cut in plan.cuts}
    for profile in profiles:
        same_names = set(profile.head_s) == set(profile.tail_s) == set(heads)
        if not same_names or (profile.head_sha256 or heads) != heads:
            raise ModelError(f"the profile of {profile.device!r} is of other cuts than this split.yaml has")
    by_device = {profile.device: profile for profile in (*plan.profiles, *profiles)}
    return tuple(by_device.values())
