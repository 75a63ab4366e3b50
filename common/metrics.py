"""The registry of one process's Prometheus metrics: what is registered, the process itself, its versions."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric

_PACKAGES = {
    "version": ("spillover",),
    "grpc": ("grpcio",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "opencv": ("opencv-python-headless",),
}
"""Label of the build's metric -> the packages that may bring it."""


class Registry(CollectorRegistry):
    """A registry without the series `..._created`, which double the page and which Prometheus does not use.

    prometheus_client can leave them out for the whole process alone.
    """

    def collect(self) -> Iterable[Metric]:
        """What the collectors give now."""
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def process_registry(prefix: str) -> Registry:
    """A registry that has `process_*`, `python_info` and `<prefix>build_info`."""
    registry = Registry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    build = Info(f"{prefix}build", "Versions that this process runs.", registry=registry)
    build.info({label: _version(packages) for label, packages in _PACKAGES.items()})
    return registry


def _version(packages: tuple[str, ...]) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"
