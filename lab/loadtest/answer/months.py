"""One mode as a month of one camera: gigabytes, costs and energy, from the figures of its cell."""

import math

from spillover.edge.config import Mode
from spillover.lab.loadtest.answer.parts import Costs, Month
from spillover.lab.loadtest.baselines import is_pure_cloud
from spillover.lab.loadtest.buyer import DAYS, BuyerConfig
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.results import Cell

BUSY = 0.7
"""How busy the server's cores and GPUs may be."""


def kind_of(mode: str, config: LoadConfig) -> str:
    """`edge_only`, `cloud_only` if it is that whatever the link is, or `hybrid`, by its edge.yaml."""
    asked = config.asked_of(mode)
    if is_pure_cloud(asked):
        return Mode.CLOUD_ONLY.value
    return Mode.EDGE_ONLY.value if asked.get("mode") == Mode.EDGE_ONLY.value else Mode.HYBRID.value


def fixed_costs(kind: str, share: int, buyer: BuyerConfig) -> tuple[float, float]:
    """A month of one camera's SIM, where `share` cameras use one link, and of its device."""
    sim = buyer.sim_month / share if kind != Mode.EDGE_ONLY.value else 0.0
    price = buyer.device if buyer.sender is None or kind != Mode.CLOUD_ONLY.value else buyer.sender
    return sim, price / buyer.months


def month_of(cell: Cell, measure: str, config: LoadConfig) -> Month:
    """A cell's medians, for as many frames as are due in a month of the buyer's hours.

    What the server does for a camera is its CPU (or GPU) time for all frames of the window, divided by them.
    """
    buyer, kind = config.buyer, kind_of(cell.mode, config)
    fps = config.scenarios[cell.scenario].fps
    hours = buyer.hours_a_day * DAYS
    gb_per_byte_a_frame = fps * hours * 3600 / 1e9

    def figure(name: str) -> float:
        return cell.figure(name) or 0.0

    asks = kind != Mode.EDGE_ONLY.value
    cores = _whole(figure("server_cpu_s_per_1000_frames") / 1000 * fps, buyer) if asks else 0
    gpus = _whole(figure("server_gpu_s_per_1000_frames") / 1000 * fps, buyer) if asks else 0
    up_gb, down_gb = (figure(f"{way}_bytes_per_frame") * gb_per_byte_a_frame for way in ("up", "down"))
    watt = buyer.device_idle_watt + buyer.device_core_watt * figure("edge_cpu_share")
    device_kwh = watt * hours / 1000
    sim, device = fixed_costs(kind, config.links[cell.link].share, buyer)
    rent = cores * buyer.server_core_hour + gpus * buyer.gpu_hour
    return Month(
        mode=cell.mode,
        kind=kind,
        quality=figure(measure),
        streaming=cell.figure("streaming"),
        confirmed_share=cell.figure("confirmed_share"),
        on_time_share=figure("on_time_share"),
        sent_share=figure("sent_share"),
        degraded_share=figure("degraded_share"),
        up_gb=up_gb,
        down_gb=down_gb,
        costs=Costs(
            data=(up_gb + down_gb) * buyer.gigabyte,
            sim=sim,
            device=device,
            server=rent * hours / buyer.cameras,
            power=device_kwh * buyer.kilowatt_hour,
        ),
        device_kwh=device_kwh,
        server_kwh=(cores * buyer.server_core_watt + gpus * buyer.gpu_watt) * hours / 1000 / buyer.cameras,
        server_cores=cores,
        gpus=gpus,
    )


def _whole(of_a_camera: float, buyer: BuyerConfig) -> int:
    """Whole cores or GPUs for all cameras, none busier than `BUSY`."""
    return math.ceil(of_a_camera * buyer.cameras / BUSY)
