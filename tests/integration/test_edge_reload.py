"""SIGHUP of a running daemon: what it follows, what it refuses, and that no frame is lost by it."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spillover.common.model.calibration import Calibration
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.edge.status.ask import ask_device
from spillover.edge.status.verdict import Verdict, verdict
from tests.support.models import bright_detector, centre_detector
from tests.support.processes import SPILLOVER
from tests.support.reloaded_edge import FPS, Site
from tests.support.scripted_cloud import PATIENCE_S, Held, answers, boxes, scripted_cloud


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


def test_the_policy_is_followed_and_every_frame_meets_one_whole(site: Site) -> None:
    """From one frame to the next the threshold is another; no result is missing, doubled or undecided."""
    with scripted_cloud() as cloud:
        uplink = {"address": cloud.address}
        quiet = {"threshold": 1.0, "audit_share": 0.0}
        with site.running(mode="hybrid", uplink=uplink, policy=quiet, deadline_s=PATIENCE_S):
            assert _reasons(site.more(site.lines)) == {"confident"}
            loud = quiet | {"threshold": 0.0}
            site.write(mode="hybrid", uplink=uplink, policy=loud, deadline_s=PATIENCE_S)
            assert site.hang_up()["changed"] == ["policy.threshold"]
            site.until(lambda: bool(cloud.requests))
            site.more(site.lines)
        lines = site.results(site.lines)
    reasons = [line["decision"]["reason"] for line in sorted(lines, key=lambda line: line["sequence"])]
    turn = next(index for index, reason in enumerate(reasons) if reason != "confident")
    assert turn > 0
    assert "confident" not in reasons[turn:]
    assert len(lines) == len({line["sequence"] for line in lines}) == site.answered()


def test_a_frame_that_is_with_the_cloud_is_answered_by_it_after_a_reload(site: Site) -> None:
    """What is under way ends as it began, although the sinks are others by then."""
    held = Held(answers)
    other = site.folder / "other.jsonl"
    with scripted_cloud(held) as cloud:
        sections = {
            "mode": "hybrid",
            "uplink": {"address": cloud.address, "max_in_flight": 1},
            "deadline_s": PATIENCE_S,
            "policy": {"threshold": 0.0},
        }
        with site.running(**sections):
            held.arrived.get(timeout=PATIENCE_S)
            site.write(**sections | {"sinks": [site.sink(other)]})
            site.hang_up()
            held.release.set()
            site.until(lambda: "cloud" in {line["answered_by"] for line in site.results(other)})
    lines = site.results(site.lines) + site.results(other)
    assert len(lines) == len({line["sequence"] for line in lines}) == site.answered()
    first = min((line for line in lines if line["answered_by"] == "cloud"), key=lambda line: line["sequence"])
    assert first["sequence"] == 0


def test_a_renamed_file_is_let_go_and_no_line_is_lost(site: Site) -> None:
    """What logrotate does: rename, SIGHUP. Old and new file together have each frame once."""
    old = site.folder / "out.jsonl.1"
    with site.running():
        site.lines.rename(old)
        assert site.hang_up()["changed"] == []
        site.until(lambda: len(site.results(site.lines)) > FPS // 2)
        size = old.stat().st_size
        site.more(site.lines)
        assert old.stat().st_size == size
    numbers = [line["sequence"] for path in (old, site.lines) for line in site.results(path)]
    assert numbers == list(range(site.answered()))


def test_sinks_come_go_and_change_while_frames_do_not_stop(site: Site) -> None:
    """A new one has every frame from then on, one that is taken out is closed, one that stays is changed."""
    added = site.folder / "added.jsonl"
    database = {"kind": "sqlite", "path": str(site.folder / "r.db")}
    with site.running():
        site.write(sinks=[site.sink(site.lines, rotate_mb=0.02), site.sink(added), database])
        assert site.hang_up()["changed"] == ["sinks"]
        site.more(added)
        rotated = site.lines.with_name("out.jsonl.1")
        site.until(rotated.exists)
        site.write(sinks=[site.sink(added)])
        site.hang_up()
        site.until(lambda: site.lines not in _open_files(site.process.pid))
        site.more(added)
    numbers = [line["sequence"] for line in site.results(added)]
    assert numbers == list(range(numbers[0], site.answered()))
    assert not any(key.startswith("results_dropped") for key in site.books())


def test_what_a_sink_has_lost_that_was_taken_out_is_not_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk never came: the status names the loss afterwards, and does not call the books balanced."""
    monkeypatch.setenv("SPILLOVER_HOME", str(site.folder))
    away = site.sink(site.folder / "away" / "out.jsonl")
    with site.running(sinks=[site.sink(site.lines), away], device_id="pole-1"):
        site.until(lambda: ask_device("pole-1").sinks[1].failing)
        site.write(device_id="pole-1")
        site.hang_up()
        site.until(lambda: "1:jsonl" in ask_device("pole-1").former_sinks_lost)
        found = ask_device("pole-1")
    assert [sink.name for sink in found.sinks] == ["0:jsonl"]
    assert verdict(found) is Verdict.LOST
    lost = site.books()["results_dropped[1:jsonl,write failed]"]
    assert found.former_sinks_lost == {"1:jsonl": lost}


def _open_files(process_id: int) -> set[Path]:
    found = set()
    for path in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(path.readlink())
    return found


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"policy": {"treshold": 1}}, ["edge.yaml", "treshold"]),
        ({"policy": {"kind": "near_threshold"}, "mode": "hybrid"}, ["edge.yaml", "policy.kind"]),
        ({"redaction": {"classes": ["cat"]}}, ["edge.yaml", "redaction"]),
        ({"sinks": [{"kind": "sqlite", "path": "/proc"}]}, ["edge.yaml", "/proc"]),
    ],
)
def test_a_fault_is_told_in_full_and_changes_nothing(
    site: Site, sections: dict[str, Any], words: list[str]
) -> None:
    """A key that does not exist, a value that does not fit the model, a file that cannot be opened."""
    base = {"mode": "hybrid", "policy": {"threshold": 1.0, "audit_share": 0.0}}
    with site.running(**base):
        site.write(**base | sections | {"log": {"level": "error", "json": True}})
        word = site.hang_up()
        assert word["event"] == "not reloaded; what was in force stays"
        assert word["level"] == "error"
        assert all(part in word["error"] for part in words)
        assert _reasons(site.more(site.lines)) == {"confident"}
    assert site.entries()[-1]["event"] == "stopped"  # of level info, which is still written


def test_what_needs_a_restart_is_named_and_the_rest_is_followed(site: Site) -> None:
    """One line names each key; it is said again at the next SIGHUP, until there was a restart."""
    with site.running():
        site.write(camera=site.camera | {"camera_id": "door", "fps": 2 * FPS}, stop_timeout_s=5.0)
        assert site.hang_up()["changed"] == ["camera.fps"]
        assert site.hang_up()["changed"] == []
        site.until(lambda: len(_named(site)) == 2)
        assert _named(site) == [["camera.camera_id", "stop_timeout_s"]] * 2
        assert {line["camera_id"] for line in site.more(site.lines)} == {"camera"}


def test_one_of_several_cameras_is_changed_and_the_others_go_on(site: Site) -> None:
    """A policy of its own from now on, named by the camera; what is none of its business stays."""
    cameras = [site.camera | {"camera_id": name} for name in ("door", "gate")]
    base: dict[str, Any] = {
        "mode": "hybrid",
        "policy": {"threshold": 1.0, "audit_share": 0.0},
        "camera": None,
    }
    with site.running(**base, cameras=cameras):
        assert _reasons(site.more(site.lines)) == {"confident"}
        changed = [cameras[0], cameras[1] | {"policy": {"threshold": 0.0}, "fps": 2 * FPS}]
        site.write(**base, cameras=changed)
        assert site.hang_up()["changed"] == ["cameras[gate].fps", "cameras[gate].policy"]
        site.until(lambda: "confident" not in _reasons(site.of("gate")[-1:]))
        site.until(lambda: site.results(site.lines)[-1]["camera_id"] == "door")
        site.write(**base, cameras=cameras[:1])
        site.hang_up()
        site.until(lambda: bool(_named(site)))
        assert _named(site) == [["cameras"]]
    assert _reasons(site.of("door")) == {"confident"}
    numbers = [line["sequence"] for line in site.results(site.lines)]
    assert len(set(numbers)) == site.answered()


def _reasons(lines: list[dict[str, Any]]) -> set[str]:
    return {line["decision"]["reason"] for line in lines}


def _named(site: Site) -> list[list[str]]:
    return [entry["keys"] for entry in site.entries() if "restart" in entry["event"]]


def test_the_rate_of_a_file_is_followed_within_a_second(site: Site) -> None:
    """From one frame in a long time to many: the wait for the next one is not sat out."""
    with site.running(camera=site.camera | {"fps": 0.001}):
        assert len(site.results(site.lines)) == 1
        site.write()
        site.hang_up()
        site.more(site.lines)


def test_the_level_of_the_log_is_followed(site: Site) -> None:
    """Also by those that have logged before: at level error nothing is heard but that there was a reload."""
    with site.running():
        site.write(log={"level": "error", "json": True})
        site.hang_up()
        site.write(stop_timeout_s=5.0)
        site.hang_up()
        site.until(lambda: bool(_named(site)))
        site.write(log={"level": "error", "json": True})
        site.hang_up()
    events = [entry["event"] for entry in site.entries()]
    restart = "changed, but in force only after a restart"
    assert events[events.index("reloaded") :] == ["reloaded", "reloaded", restart, "reloaded"]


def test_a_report_threshold_and_a_redaction_are_followed(site: Site) -> None:
    """Boxes below it are not reported from then on; what must be hidden is."""
    model = {"folder": str(centre_detector(site.folder / "models")), "session": {"threads": 1}}
    with site.running(model=model):  # a box of confidence 90/255
        assert all(line["boxes"] for line in site.more(site.lines))
        site.write(model=model | {"report_threshold": 0.6}, redaction={"classes": [0]})
        assert site.hang_up()["changed"] == ["model.report_threshold", "redaction"]
        site.until(lambda: not site.results(site.lines)[-1]["boxes"])


def test_zones_and_class_thresholds_are_followed(site: Site) -> None:
    """A zone that moves away is left, a new one entered, by the object that was there before."""

    def told(kind: str, zone: str) -> list[int]:
        events = [json.loads(line) for line in site.lines.read_bytes().split(b"\n")[:-1]]
        return [one["track_id"] for one in events if (one.get("event"), one.get("zone")) == (kind, zone)]

    def zone(name: str, left: float) -> dict[str, Any]:
        return {"name": name, "polygon": [[left, 0], [left + 0.4, 0], [left + 0.4, 1], [left, 1]]}

    model = {
        "folder": str(bright_detector(site.folder / "models", "bright", labels=["cat"])),
        "session": {"threads": 1},
    }
    sections = {"model": model, "sinks": [site.sink(site.lines, events=True)]}
    with site.running(**sections, events={"zones": [zone("door", 0.3)]}):
        site.until(lambda: bool(told("enter", "door")))
        site.write(**sections, events={"zones": [zone("door", 0.6), zone("yard", 0.3)]})
        assert site.hang_up()["changed"] == ["events.zones"]
        site.until(lambda: told("leave", "door") == told("enter", "yard") == told("enter", "door"))
        site.write(**sections | {"model": model | {"class_thresholds": {"cat": 0.6}}})
        assert site.hang_up()["changed"] == ["events", "model.class_thresholds"]
        site.until(lambda: not site.results(site.lines)[-1]["boxes"])


def test_a_report_threshold_is_followed_by_the_clouds_answers_too(site: Site) -> None:
    """An edge on the cloud's scale: what is reported does not depend on who answers, after a reload too."""
    folder = centre_detector(site.folder / "models")
    described = open_model_folder(folder).manifest
    output = msgspec.structs.replace(described.output, calibration=Calibration(0.0, 1.0))
    write_manifest(folder, msgspec.structs.replace(described, output=output))
    model = {"folder": str(folder), "session": {"threads": 1}}
    with scripted_cloud(boxes) as cloud:
        sections = {
            "mode": "cloud_only",
            "uplink": {"address": cloud.address},
            "deadline_s": PATIENCE_S,
            "camera": site.camera | {"fps": 10},
        }
        with site.running(**sections, model=model | {"report_threshold": 0.1}):
            assert all(line["boxes"] for line in site.more(site.lines) if line["answered_by"] == "cloud")
            site.write(**sections, model=model | {"report_threshold": 0.85})
            assert site.hang_up()["changed"] == ["model.report_threshold"]

            def nothing_is_sure() -> bool:
                last = site.results(site.lines)[-1]
                return last["answered_by"] == "cloud" and not last["boxes"]

            site.until(nothing_is_sure)


def test_many_hangups_in_a_row_and_a_stop_in_the_middle(site: Site) -> None:
    """Each is heard, none is too much, and SIGTERM ends the daemon as ever: code 0, every frame there."""
    with site.running():
        for number in range(20):
            site.write(camera=site.camera | {"fps": FPS + number})
            site.process.send_signal(signal.SIGHUP)
        site.until(lambda: site.hang_up()["changed"] == [])
        site.process.send_signal(signal.SIGHUP)
    numbers = [line["sequence"] for line in site.results(site.lines)]
    assert numbers == list(range(site.answered()))


def test_a_reload_that_hangs_holds_up_neither_frames_nor_the_stop(site: Site) -> None:
    """A new sink is a pipe that nobody opens: frames go on, SIGTERM ends the daemon with code 0."""
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)
    with site.running():
        site.write(sinks=[site.sink(site.lines), site.sink(pipe)])
        site.process.send_signal(signal.SIGHUP)
        site.until(lambda: any(_waits_to_open(site.process.pid)))
        site.process.send_signal(signal.SIGHUP)
        site.more(site.lines)
    assert site.reloads() == []


def _waits_to_open(process_id: int) -> Iterator[bool]:
    """For each thread: whether it is inside the opening of a pipe."""
    for task in Path(f"/proc/{process_id}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end in between
            yield (task / "wchan").read_text() in {"wait_for_partner", "fifo_open"}


def test_systemd_hears_of_each_reload_and_how_it_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELOADING with the time, then READY; the status says what was refused, and what needs a restart."""
    address = site.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        with site.running():
            assert systemd.recv(4096) == b"READY=1\nSTATUS=mode edge_only"
            site.path.write_text("mode: sometimes")
            site.hang_up()
            assert systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert systemd.recv(4096).startswith(b"READY=1\nSTATUS=mode edge_only, not reloaded: ")
            site.write(device_id="other")
            site.hang_up()
            assert systemd.recv(4096).startswith(b"RELOADING=1")
            assert systemd.recv(4096) == b"READY=1\nSTATUS=mode edge_only, restart for device_id"


def test_a_hangup_during_the_start_is_heard_after_it(site: Site) -> None:
    """What the daemon has read may be older than what the signal is about; it neither ends nor forgets it."""
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)  # the start waits until somebody reads
    site.write(sinks=[site.sink(site.lines), site.sink(pipe)])
    with site.log.open("wb") as log:
        site.process = subprocess.Popen([*SPILLOVER, "edge", "-c", str(site.path)], stderr=log)
    try:
        site.until(lambda: any(_waits_to_open(site.process.pid)))
        site.write()
        site.process.send_signal(signal.SIGHUP)
        with pipe.open("rb"):
            site.until(lambda: bool(site.reloads()))
        assert site.reloads()[0]["changed"] == ["sinks"]
        site.process.terminate()
        assert site.process.wait(PATIENCE_S) == 0, site.log.read_text()
    finally:
        site.process.kill()
        site.process.wait(PATIENCE_S)
