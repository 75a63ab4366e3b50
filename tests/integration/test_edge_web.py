"""The live view of a running daemon over real HTTP: pictures, results, limits, and what is hidden."""

import socket
from contextlib import ExitStack
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.images import decode_jpeg, encode_jpeg
from spillover.edge.sinks.record import Record
from spillover.edge.web import inference, live_view
from spillover.edge.web.hub import MAX_VIEWERS
from tests.attack.jpegs import claiming
from tests.support.live_view import (
    HEIGHT,
    SIDE,
    TOP,
    WIDTH,
    LiveStreet,
    events,
    live_street,
    pictures,
    sees,
)
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.tracked import until

ROW = TOP + SIDE // 2
SMALL = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory):
    """One daemon for the tests that change nothing."""
    with live_street(tmp_path_factory.mktemp("street")) as found:
        yield found


def white(image: np.ndarray) -> tuple[int, int]:
    """From where to where a picture is white in the row of the object."""
    found = np.flatnonzero(image[ROW].min(axis=1) > 128)
    return int(found[0]), int(found[-1]) + 1


@pytest.mark.parametrize("path", ["/", "/live.css", "/live.js", "/api/v1/status", "/api/v1/results"])
def test_each_page_says_what_it_may_load(street: LiveStreet, path: str) -> None:
    """A strict policy on every answer; the page has no script or style of its own, so it holds."""
    with street.stream(path) as answer:
        body = answer.read().decode()
        policy = answer.headers["Content-Security-Policy"]
    assert answer.status == 200
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert "http://" not in body.replace("http://www.w3.org/", "")
    assert "https://" not in body
    if path == "/":
        assert "<style" not in body
        assert " style=" not in body
        assert "<script>" not in body
        assert " onload" not in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../etc/passwd", 404),
        ("/live.js/../../daemon.py", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/api/v1/snapshot/nobody.jpg", 404),
        ("/api/v1/snapshot/../camera.jpg", 404),
        ("/live.mjpg?camera=nobody", 404),
        ("/events?camera=%00", 404),
        ("/api/v1/results?since=-1", 400),
        ("/api/v1/results?since=1e9", 400),
        ("/?token=secret", 400),
        ("/" + "x" * 15_000, 404),
        ("/" + "x" * 17_000, 431),
        ("/metrics", 200),
        ("/status", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/favicon.ico", 204),
    ],
)
def test_other_paths_have_clear_answers(street: LiveStreet, path: str, status: int) -> None:
    """No file is reached by its path; what is there beside the page is as it was."""
    assert street.get(path)[0] == status


def test_a_site_with_another_name_sees_nothing(street: LiveStreet) -> None:
    """A name that its owner points at this machine, and a page that embeds the picture."""
    for headers in ({"Host": "evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/", "/live.mjpg", "/events", "/api/v1/snapshot/camera.jpg"):
            assert street.get(path, headers)[0] == 403
    assert street.get("/live.mjpg", method="POST")[0] == 405


def test_pictures_come_one_after_the_other(street: LiveStreet) -> None:
    """The object walks through them, each newer than the one before."""
    with street.stream("/live.mjpg") as answer:
        places = [white(image) for image, _ in zip(pictures(answer), range(8), strict=False)]
    assert len(set(places)) >= 4
    assert all(abs((right - left) - SIDE) <= 2 for left, right in places)


def test_boxes_are_told_with_the_picture_that_they_are_of(street: LiveStreet) -> None:
    """Every result once, without pixels, and for each picture that is shown its place and its boxes."""
    told: dict[str, list] = {"picture": [], "result": [], "status": [], "event": []}
    with street.stream("/events") as answer:
        for name, data in events(answer):
            told[name].append(data)
            if len(told["result"]) >= 12 and len(told["status"]) >= 2:
                break
    numbers = [one["sequence"] for one in told["result"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for one in told["picture"]:
        assert (one["size"], one["canvas"]) == ([WIDTH, HEIGHT], [WIDTH, HEIGHT])
        assert one["tiles"] == {"camera": [0, 0, WIDTH, HEIGHT]}
        (box,) = one["result"]["boxes"]
        assert box["xyxy"] == sees(one["result"]["sequence"]).xyxy[0].tolist()
        assert one["result"]["decision"]["reason"]
    assert 2 <= len(told["picture"]) < len(numbers)
    assert told["status"][0]["status"]["device_id"] == "pole-7"
    assert "started" in [one["event"] for one in told["event"]]


def test_a_snapshot_is_the_newest_frame_in_its_own_size(street: LiveStreet) -> None:
    """Of a camera that nobody watches, too."""
    status, jpeg = street.get("/api/v1/snapshot/camera.jpg")
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert (status, image.shape) == (200, (HEIGHT, WIDTH, 3))
    left, right = white(image)
    assert abs(right - left - SIDE) <= 2


def test_results_can_be_asked_for_now_and_then(street: LiveStreet) -> None:
    """Each time those that are new, in order and without a gap."""
    seen: list[int] = []
    since = 0
    for _ in range(3):
        captured = street.daemon.metrics.frames_captured
        until(lambda: street.daemon.metrics.frames_captured > captured + 2)  # noqa: B023 - it ends in the turn
        status, body = street.get(f"/api/v1/results?since={since}")
        found = msgspec.json.decode(body)
        assert status == 200
        assert found["results"]
        seen += [one["sequence"] for one in found["results"]]
        since = found["next"]
    assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_nothing_is_encoded_while_nobody_looks(tmp_path: Path) -> None:
    """No picture before the first viewer, none after the last; an event stream alone needs none."""
    with live_street(tmp_path) as street:
        view = street.daemon.live_view
        until(lambda: street.daemon.metrics.frames_captured > 5)
        with street.stream("/events") as answer:
            until(lambda: next(events(answer))[0] == "picture")
        assert view.painter.encoded == 0
        with street.stream("/live.mjpg") as answer:
            shown = pictures(answer)
            for _ in range(3):
                next(shown)
        until(lambda: view.hub.viewers == 0)
        encoded = view.painter.encoded
        until(lambda: view.hub.looks(["camera"]) == {})
        captured = street.daemon.metrics.frames_captured
        until(lambda: street.daemon.metrics.frames_captured > captured + 5)
        assert view.painter.encoded == encoded >= 2


def test_nothing_is_encoded_while_pictures_are_paused(tmp_path: Path) -> None:
    """The stream stays open and is told why; a snapshot is refused with the reason; then both come again."""
    with live_street(tmp_path) as street:
        view = street.daemon.live_view
        with street.stream("/live.mjpg") as answer, street.stream("/events") as told:
            shown = pictures(answer)
            next(shown)
            view.pause("84 C")
            until(lambda: next(data["live"]["paused"] for name, data in events(told) if name == "status"))
            encoded = view.painter.encoded
            captured = street.daemon.metrics.frames_captured
            until(lambda: street.daemon.metrics.frames_captured > captured + 5)
            assert view.painter.encoded == encoded
            status, why = street.get("/api/v1/snapshot/camera.jpg")
            assert (status, why) == (503, b"pictures are paused: 84 C\n")
            view.resume()
            until(lambda: next(shown).shape == (HEIGHT, WIDTH, 3) and view.painter.encoded > encoded + 2)


def test_the_fifth_viewer_is_refused_until_one_has_gone(street: LiveStreet) -> None:
    """503 for pictures and for events; meanwhile the other pages, and Prometheus, have their answers."""
    with ExitStack() as stack:
        first = ExitStack()
        for number in range(MAX_VIEWERS):
            of = stack if number else first
            shown = of.enter_context(street.stream("/live.mjpg"))
            told = of.enter_context(street.stream("/events"))
            next(pictures(shown))
            next(events(told))
        assert street.get("/live.mjpg")[0] == 503
        assert street.get("/events")[0] == 503
        for _ in range(20):
            assert street.get("/metrics")[0] == 200
        assert b"spillover_edge_live_viewers 4.0" in street.get("/metrics")[1]
        first.close()
        until(lambda: street.daemon.live_view.hub.viewers < MAX_VIEWERS)
        with street.stream("/live.mjpg") as answer:
            assert next(pictures(answer)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("path", ["/live.mjpg", "/api/v1/snapshot/camera.jpg", "/live.mjpg?camera=camera"])
def test_what_is_hidden_is_hidden_here_too(tmp_path: Path, path: str) -> None:
    """Masks and redacted classes are black in every picture that is shown."""
    mask = [[[0.0, 0.8], [1.0, 0.8], [1.0, 1.0], [0.0, 1.0]]]
    redaction = {"classes": [0], "style": "fill", "margin": 0.0, "masks": mask}
    with live_street(tmp_path, redaction=redaction) as street, street.stream(path) as answer:
        if "snapshot" in path:
            images = [cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)]
        else:
            images = [image for image, _ in zip(pictures(answer), range(3), strict=False)][1:]
    for image in images:
        assert image.max() < 80  # the object is white where it is not hidden, and the rest is grey
        assert image[-HEIGHT // 5 + 8 :].max() < 20
        assert np.median(image[: HEIGHT // 2]) == pytest.approx(40, abs=4)


def test_several_cameras_are_one_picture(tmp_path: Path) -> None:
    """Four tiles of a stream, each where the events say that it is."""
    with live_street(tmp_path, cameras=4) as street:
        with street.stream("/events") as answer:
            tiles = next(data["tiles"] for name, data in events(answer) if name == "picture")
        assert list(tiles) == ["cam0", "cam1", "cam2", "cam3"]
        with street.stream("/live.mjpg") as answer:
            shown = pictures(answer)
            until(lambda: all(_is_lit(image, tiles) for image in [next(shown)]))
        with street.stream("/live.mjpg?camera=cam2") as answer:
            assert next(pictures(answer)).shape[:2] in {(HEIGHT, WIDTH), (480, 640)}


def _is_lit(image: np.ndarray, tiles: dict[str, list[int]]) -> bool:
    parts = [image[top : top + high, left : left + wide] for left, top, wide, high in tiles.values()]
    return image.shape == (480, 640, 3) and all(part.max() > 200 for part in parts)


def test_a_camera_that_is_lost_is_told_and_gives_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/readyz` names it; a snapshot says that there is no picture, after a while and not for ever."""
    monkeypatch.setattr(live_view, "SNAPSHOT_S", 1.0)
    with live_street(tmp_path, cameras=2, lost="door") as street:
        until(lambda: street.get("/readyz")[1].startswith(b"camera door: lost"))
        assert street.get("/readyz")[0] == 503
        assert street.get("/livez")[0] == 200
        assert street.get("/api/v1/snapshot/door.jpg")[0] == 503
        assert street.get("/api/v1/snapshot/cam0.jpg")[0] == 200


def test_without_a_live_view_there_is_none(tmp_path: Path) -> None:
    """The metrics and the probes are there, and no picture can be asked for."""
    with live_street(tmp_path, live_view=False) as street:
        assert [street.get(path)[0] for path in ("/", "/live.mjpg", "/events")] == [404, 404, 404]
        assert street.get("/metrics")[0] == street.get("/readyz")[0] == 200


def test_a_stop_ends_the_streams(tmp_path: Path) -> None:
    """Viewers are let go of; none of them keeps the daemon."""
    with ExitStack() as stack:
        with live_street(tmp_path) as street:
            shown = stack.enter_context(street.stream("/live.mjpg"))
            told = stack.enter_context(street.stream("/events"))
            next(pictures(shown))
            next(events(told))
        for _ in pictures(shown):
            pass
        for _ in events(told):
            pass
    assert street.daemon.left_behind == []


def test_events_can_be_asked_for_by_number(street: LiveStreet) -> None:
    """The daemon's own, in order, and only newer ones the next time."""
    found = msgspec.json.decode(street.get("/api/v1/events")[1])
    kinds = [one["event"] for one in found["events"]]
    assert {"started", "camera_state"} <= set(kinds)
    assert found["boot_id"] == street.daemon.status().boot_id
    later = msgspec.json.decode(street.get(f"/api/v1/events?since={found['next']}")[1])
    assert later["events"] == []
    assert later["next"] == found["next"]


def test_a_picture_that_a_program_sends_is_answered_in_the_form_of_a_record(street: LiveStreet) -> None:
    """By this device's model, while the camera's frames have their own order."""
    rng = np.random.default_rng(3)
    jpeg = encode_jpeg(rng.integers(200, 255, (90, 160, 3), np.uint8), 90).data
    captured = street.daemon.metrics.frames_captured
    status, body = street.get("/api/v1/infer", method="POST", body=jpeg)
    record = msgspec.json.decode(body, type=Record)
    model = street.daemon._device.model
    seen, _ = model.predict(decode_jpeg(jpeg, 1_000_000))
    wanted = street.daemon._streams[0].pipeline.settings.report.reported(seen)
    assert (status, record.camera_id, record.model) == (200, "infer", model.model_id)
    assert len(record.boxes) == len(wanted) > 0
    assert np.allclose([box.xyxy for box in record.boxes], wanted.xyxy, atol=0.1)
    assert record.timings.infer_s > 0
    until(lambda: street.daemon.metrics.frames_captured > captured + 2)
    numbers = [one["sequence"] for one in msgspec.json.decode(street.get("/api/v1/results")[1])["results"]]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"", 400, b"picture is empty"),
        (b"\x89PNG", 400, b"not a JPEG"),
        (b"\xff\xd8\xff\xd9" * 100, 400, b"JPEG"),
        (
            claiming(encode_jpeg(SMALL, 90).data, 60_000, 60_000),
            413,
            b"the limit is 12500000 pixels",
        ),
        (bytes(inference.MAX_BYTES + 1), 413, b"the limit is 8388608"),
    ],
)
def test_what_is_no_picture_has_a_clear_answer(
    street: LiveStreet, body: bytes, status: int, why: bytes
) -> None:
    """Judged by its length and its header, before a pixel is decoded."""
    found = street.get("/api/v1/infer", method="POST", body=body)
    assert found[0] == status
    assert why in found[1]


def test_a_third_picture_at_once_is_refused(street: LiveStreet, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, while two that come slowly hold the places; what else is asked for has its answer."""
    host, _, port = street.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(inference.MAX_WAITING):
            slow = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE_S))
            slow.sendall(b"POST /api/v1/infer HTTP/1.0\r\nContent-Length: 1000\r\n\r\n\xff")
        until(lambda: street.get("/api/v1/infer", method="POST", body=b"x")[0] == 503)
        assert street.get("/api/v1/status")[0] == 200
    until(lambda: street.get("/api/v1/infer", method="POST", body=b"x")[0] == 400)
    assert b'page_refused_total{cause="queue_full"}' in street.get("/metrics")[1]
