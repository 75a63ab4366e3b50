"""From the configuration to the service that the uplink calls."""

from spillover.edge.config import EdgeConfig
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.uplink.protocol import SpilloverWire, Wire


def build_wire(config: EdgeConfig, tensors: TensorEncoder | None) -> Wire:
    """The service of `uplink.protocol`; `tensors` is there with `oip` alone."""
    if tensors is None or config.uplink.oip is None:
        return SpilloverWire(config.uplink, config.device_id)
    from spillover.edge.uplink.oip import OipWire  # generated code that others need not carry

    return OipWire(config.uplink, config.uplink.oip, tensors)
