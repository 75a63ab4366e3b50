"""Fixtures that every test may use, and what a test may need of the machine that runs it.

A test that cannot run here skips and says why. `SPILLOVER_REQUIRE=mqtt,rtsp` (or `all`) names what must be
here: then such a skip is a failure.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts on time: a busy machine must fail none.
settings.register_profile("no-clock", deadline=None)
settings.load_profile("no-clock")
# An emulator takes twenty times as long for each example.
settings.register_profile("emulated", deadline=None, max_examples=5)

NEEDS = {
    "chromium": "Chromium (Debian's chromium)",
    "git": "a git checkout",
    "h2load": "h2load (Debian's nghttp2-client)",
    "haproxy": "HAProxy",
    "kernel-links": "network namespaces and traffic control (root, iproute2)",
    "mmdebstrap": "mmdebstrap, root and a mirror; takes minutes",
    "models": "the packages of the extra `models`",
    "mqtt": "mosquitto and paho-mqtt",
    "nftables": "the right to load rules of nftables in a network namespace (root, nft)",
    "no-cuda": "a machine without CUDA",
    "oip-peers": "Triton and MLServer (`make oip-peers`)",
    "perf-analyzer": "perf_analyzer",
    "promtool": "promtool (Debian's package prometheus)",
    "rtsp": "GStreamer's RTSP server and its Python bindings",
    "sandbox": "mount namespaces (root, util-linux)",
    "shared": "real models and labelled pictures (SPILLOVER_SHARED)",
    "shellcheck": "shellcheck",
    "small-disk": "the right to mount a small disk",
    "strace": "strace",
    "systemd": "systemd's manager and tools",
}
"""What the marker `needs` may name."""
_BY_FIXTURE = {
    "namespaces": "kernel-links",
    "peer": "oip-peers",
    "perf_analyzer": "perf-analyzer",
    "shared_dir": "shared",
    "small_disk": "small-disk",
}
"""Fixtures that skip where something is missing."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a name in SPILLOVER_REQUIRE that no test uses: a misspelt one would require nothing."""
    unknown = _required() - NEEDS.keys() - {"all"}
    if unknown:
        raise pytest.UsageError(
            f"SPILLOVER_REQUIRE: {', '.join(sorted(unknown))} is unknown; known are all, {', '.join(NEEDS)}"
        )
    del config


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with real processes are slow, all of them."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of what is required into a failure."""
    report = yield
    required = _required()
    needs = _needs(item)
    if report.skipped and not hasattr(report, "wasxfail") and ("all" in required or needs & required):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"SPILLOVER_REQUIRE names {', '.join(sorted(needs)) or 'all'}: {why}"
    return report


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real models and labelled pictures; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("SPILLOVER_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip(f"no real models and pictures at {folder} (set SPILLOVER_SHARED)")
    return folder


def _required() -> set[str]:
    return set(os.environ.get("SPILLOVER_REQUIRE", "").replace(",", " ").split())


def _needs(item: pytest.Item) -> set[str]:
    """What the markers and fixtures of a test name."""
    marked = {str(name) for marker in item.iter_markers("needs") for name in marker.args}
    fixtures = getattr(item, "fixturenames", ())
    return marked | {_BY_FIXTURE[name] for name in fixtures if name in _BY_FIXTURE}
