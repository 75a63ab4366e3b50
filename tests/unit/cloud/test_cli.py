"""What `spillover cloud` refuses before it starts."""

import pytest

from spillover.cloud.cli import require_runtime
from spillover.common.errors import ConfigError


def test_without_onnxruntime_aarch64_is_told_that_cloud_gpu_brings_none() -> None:
    """With both ways out: a vendor's build, or the CPU. Elsewhere the missing library names its own extra."""
    with pytest.raises(ConfigError, match=r"(?s)none on aarch64.*NVIDIA.*spillover\[cloud\]"):
        require_runtime("aarch64", installed=False)
    require_runtime("aarch64", installed=True)
    require_runtime("x86_64", installed=False)
