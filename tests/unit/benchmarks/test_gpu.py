"""The server benchmark on CUDA: left out with a reason where there is none."""

import pytest
from click.testing import CliRunner

from benchmarks.cloud.cli import bench_cloud
from benchmarks.cloud.engine import Device, Engine, why_no_cuda


@pytest.mark.needs("no-cuda")
@pytest.mark.skipif(not why_no_cuda(), reason="this machine has CUDA: `make bench-gpu` runs there")
def test_without_cuda_the_reason_is_printed_and_nothing_fails():
    """Exit code 0, one line that says why, and no figures that were measured on something else."""
    done = CliRunner().invoke(bench_cloud, ["--device", "cuda"])
    assert done.exit_code == 0
    assert done.output == f"bench-gpu skipped: {why_no_cuda()}\n"


def test_every_contender_computes_on_the_same_device():
    """The other servers' environments for CUDA have their own names, and the runtime that goes with it."""
    cpu, cuda = Engine(1), Engine(1, Device.CUDA)
    assert (cpu.environment("triton"), cuda.environment("triton")) == ("triton", "triton-cuda")
    assert cuda.providers[0] == "CUDAExecutionProvider"
    assert cpu.providers == ("CPUExecutionProvider",)
    assert "gpu" in cuda.requirement
    assert "gpu" not in cpu.requirement
