"""The section `buyer` of load.yaml: what is to be bought, what it costs, and what it must do."""

from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive, Share

DAYS = 30
"""Days of a month, as in the byte budget of edge.yaml."""


class BuyerConfig(Section, frozen=True):
    """What the report's verdict answers: how many cameras, what they may use, and what things cost.

    Prices are in `currency`; a part without a price costs nothing. A month has 30 days.
    """

    scenarios: tuple[Name, ...] = ()
    """Scenarios of real edges that the verdict is about; empty: all of them."""
    cameras: Count = 1
    """Cameras to be bought. They share the servers, of which there are whole cores and whole GPUs."""
    hours_a_day: Annotated[float, msgspec.Meta(gt=0, le=24)] = 24.0
    """Hours a day in which they work."""
    gb_month_camera: Positive | None = None
    """Gigabytes (10^9 bytes), up and down, that a camera may use in a month; null: any number."""
    least_quality: Share = 0.0
    """Least accuracy (without labels: agreement with the cloud's model) of the first answers."""
    least_on_time: Share = 0.99
    """Least share of frames with an answer by `deadline_s`, which is the buyer's deadline too."""
    currency: Annotated[
        str, msgspec.Meta(pattern=r"^[^\s<>]{1,8}\Z", description="1 to 8 characters without spaces, < and >")
    ] = "EUR"
    """What prices are in."""
    months: Positive = 36.0
    """Months over which the price of a device is spread."""
    device: NotNegative = 0.0
    """Price of one device that runs the edge's model."""
    sender: NotNegative | None = None
    """Price of one that only sends, for modes that are `cloud_only`; null: as `device`."""
    sim_month: NotNegative = 0.0
    """Price of one SIM or line a month, for modes that ask the cloud; cameras that share a link share it."""
    gigabyte: NotNegative = 0.0
    """Price of one gigabyte, up or down."""
    server_core_hour: NotNegative = 0.04
    """Price of one hour of one core of the server."""
    gpu_hour: NotNegative = 1.0
    """Price of one hour of one GPU of the server."""
    kilowatt_hour: NotNegative = 0.0
    """Price of the devices' electricity; the servers' is in their price."""
    device_idle_watt: NotNegative = 0.0
    """Power of a device with its camera that computes nothing."""
    device_core_watt: NotNegative = 0.0
    """What one of its cores takes on top while it computes, by the CPU time measured here."""
    server_core_watt: NotNegative = 0.0
    """Power of one core of the server."""
    gpu_watt: NotNegative = 0.0
    """Power of one GPU of the server."""
