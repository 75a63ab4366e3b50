"""The first page of a load test counted again from its raw records, by arithmetic of its own.

It reads what the edges wrote, run.json, reference.jsonl and load.yaml, and calls nothing of the project.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
SURE, OVERLAP, DAYS, BUSY, CLOSE = 0.3, 0.5, 30, 0.7, 0.01


def recount(out: Path, load: Json, scenario: str, link: str, edges: int) -> dict[str, Json]:
    """By mode: the columns of the first page, shares as shares, by their headings."""
    files = sorted((out / scenario).glob("reference-*.jsonl"))
    truths = [_lines(path) for path in files]
    return {
        mode: _month(
            out / scenario / f"{mode}-{link}-{edges}" / "repeat-0",
            truths,
            load,
            load["modes"][mode],
            (link, edges),
        )
        for mode in load["scenarios"][scenario]["modes"]
    }


def _month(run: Path, truths: Sequence[Any], load: Json, mode: Json, where: tuple[str, int]) -> Json:
    raw = json.loads((run / "run.json").read_text())
    buyer, fps, (link, edges) = load["buyer"], raw["fps"], where
    counted = [
        _edge(_lines(run / f"edge-{n}.jsonl"), truths[raw["references"][n]], raw["skipped"][n], raw)
        for n in range(edges)
    ]
    frames = sum(edge["frames"] for edge in counted)
    payload, all_payload = (sum(edge[key] for edge in counted) for key in ("payload", "all_payload"))
    up_bytes = raw["up_bytes"] * payload / all_payload if all_payload else _rise(raw, "up_bytes")
    hours = buyer["hours_a_day"] * DAYS
    due = fps * hours * 3600
    up, down = up_bytes / frames * due / 1e9, _rise(raw, "down_bytes") / frames * due / 1e9
    asks = mode["mode"] != "edge_only"
    cores = math.ceil(_rise(raw, "server_cpu_s") / frames * fps * buyer["cameras"] / BUSY) if asks else 0
    busy = _rise(raw, "edges_cpu_s") / (raw["end_unix_s"] - raw["begin_unix_s"]) / edges
    device_kwh = (buyer["device_idle_watt"] + buyer["device_core_watt"] * busy) * hours / 1000
    price = buyer["sender"] if mode["mode"] == "cloud_only" else buyer["device"]
    costs = {
        "data": (up + down) * buyer["gigabyte"],
        "SIM": buyer["sim_month"] / load["links"][link].get("share", 1) if asks else 0,
        "device": price / buyer["months"],
        "server": cores * buyer["server_core_hour"] * hours / buyer["cameras"],
        "power": device_kwh * buyer["kilowatt_hour"],
    }
    shares = {
        heading: sum(edge[key] for edge in counted) / frames
        for heading, key in (("on time", "on_time"), ("sent", "sent"), ("degraded", "degraded"))
    }
    judged = {
        key: sum(edge[key] for edge in counted) / edges for key in ("quality", "streaming", "confirmed")
    }
    return {
        **judged,
        **shares,
        "GB up": up,
        "GB down": down,
        "GB": up + down,
        buyer["currency"]: sum(costs.values()),
        **costs,
        "kWh": device_kwh + cores * buyer["server_core_watt"] * hours / 1000 / buyer["cameras"],
        "cores": cores,
    }


def _edge(records: Sequence[Json], truth: Sequence[Json], skipped: int, raw: Json) -> Json:
    fps = raw["fps"]
    first: dict[int, Json] = {}
    last: dict[int, Json] = {}
    for record in records:
        first.setdefault(record["sequence"], record)
        last[record["sequence"]] = record
    zero_s = min(record["captured_unix_s"] - record["sequence"] / fps for record in records)
    begin = math.ceil((raw["begin_unix_s"] - zero_s) * fps - 1e-6)
    numbers = range(begin, begin + round((raw["end_unix_s"] - raw["begin_unix_s"]) * fps))
    answered = [n for n in numbers if n in first]
    boxes = [box for n in answered for box in first[n]["boxes"]]

    def said_s(record: Json) -> float:
        return float(record["captured_unix_s"] + record["timings"]["total_s"])

    def streaming(number: int) -> float:
        said = [record for record in records if said_s(record) <= zero_s + number / fps + 1e-9]
        newest = max(said, key=lambda record: (record["sequence"], said_s(record)), default=None)
        return _f1(newest, truth[(number + skipped) % len(truth)]) if newest else 0.0

    on_time = [n for n in answered if said_s(first[n]) - (zero_s + n / fps) <= raw["deadline_s"]]
    return {
        "frames": len(numbers),
        "on_time": len(on_time),
        "sent": sum(last[n]["payload_bytes"] > 0 for n in answered),
        "degraded": sum(first[n]["answered_by"] == "edge_degraded" for n in answered),
        "payload": sum(last[n]["payload_bytes"] for n in answered),
        "all_payload": sum(record["payload_bytes"] for record in last.values()),
        "quality": sum(_f1(first[n], truth[(n + skipped) % len(truth)]) for n in answered) / len(answered),
        "streaming": sum(map(streaming, numbers)) / len(numbers),
        "confirmed": sum(box["confirmed_by"] == "cloud" for box in boxes) / max(1, len(boxes)),
    }


def _f1(said: Json, true: Json) -> float:
    mine, theirs = ([b for b in one["boxes"] if b["confidence"] >= SURE] for one in (said, true))
    total, left, hits = len(mine) + len(theirs), list(theirs), 0
    for box in sorted(mine, key=lambda b: -b["confidence"]):
        same = [
            b for b in left if b["class_id"] == box["class_id"] and _iou(b["xyxy"], box["xyxy"]) >= OVERLAP
        ]
        if same:
            left.remove(max(same, key=lambda b: _iou(b["xyxy"], box["xyxy"])))
            hits += 1
    return 2 * hits / total if total else 1.0


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(0.0, width) * max(0.0, height)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(areas) - both) if both else 0.0


def _rise(raw: Json, name: str) -> float:
    """A total at the end of the window less that at its beginning, on straight lines between the samples."""

    def at(unix_s: float) -> float:
        samples = raw["samples"]
        for before, after in itertools.pairwise(samples):
            if unix_s <= after["unix_s"] or after is samples[-1]:
                share = (unix_s - before["unix_s"]) / (after["unix_s"] - before["unix_s"])
                return float(before[name] + min(1, max(0, share)) * (after[name] - before[name]))
        raise AssertionError(samples)

    return at(raw["end_unix_s"]) - at(raw["begin_unix_s"])


def take(months: Mapping[str, Json], buyer: Json) -> str:
    """The mode to take: the cheapest within the limits that is within a point of the best."""
    allowed = {
        mode: month
        for mode, month in months.items()
        if month["GB"] <= buyer["gb_month_camera"] and month["on time"] >= buyer["least_on_time"]
    }
    best = max(month["quality"] for month in allowed.values())
    good = [mode for mode, month in allowed.items() if month["quality"] >= best - CLOSE]
    return min(good, key=lambda mode: allowed[mode][buyer["currency"]])


def table_of(markdown: str) -> dict[str, dict[str, str]]:
    """The first table of a page: by the first column, each row by its headings."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), markdown.splitlines())
    table = itertools.takewhile(lambda line: line.startswith("|"), lines)
    headings, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows}


def numbers_in(text: str) -> list[float]:
    """The numbers of a sentence, percentages as shares; digits inside of names are none."""
    found = re.findall(r"(?<![\w.-])(\d[\d,]*(?:\.\d+)?)(%?)(?![\w-])", text)
    return [float(number.replace(",", "")) / (100 if percent else 1) for number, percent in found]


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines() if not line.startswith('{"event":')]
