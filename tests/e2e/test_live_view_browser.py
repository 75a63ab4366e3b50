"""The live view in a real browser: the picture moves, boxes sit on their objects, a cut link shows."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from spillover.edge.web.hub import MAX_VIEWERS
from tests.support.chromium import Page, chromium
from tests.support.live_view import SIDE, events, live_street, pictures, sees
from tests.support.scripted_cloud import refuses, scripted_cloud
from tests.support.tracked import says

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(300)]

PAINTED = """(() => {
  const [canvas, picture] = [document.createElement("canvas"), document.getElementById("picture")];
  const boxes = [...document.querySelectorAll(".box")];
  if (!picture.naturalWidth || boxes.length !== 1) return null;
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let [left, right] = [canvas.width, 0];
  for (let x = 0; x < canvas.width; x += 1) {
    const isWhite = data[4 * (120 * canvas.width + x)] > 128;
    if (isWhite) { left = Math.min(left, x); right = Math.max(right, x + 1); }
  }
  const at = Number(boxes[0].getAttribute("x"));
  return { left, right, box: [at, at + Number(boxes[0].getAttribute("width"))] };
})()"""
"""Where the white object is in the picture that is shown, and its box, both in the picture's pixels."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_boxes_sit_on_the_objects_of_a_picture_that_moves(page: Page, tmp_path: Path) -> None:
    """The pixels of the picture and the box beside them, many times while the object walks; no complaint."""
    with live_street(tmp_path) as street:
        page.open(f"http://{street.address}/")
        page.until(PAINTED)
        seen = [
            page.value(PAINTED) for _ in range(60) if page.value("new Promise(r => setTimeout(r, 50, 1))")
        ]
        assert page.value("document.getElementById('state').textContent") == "live"
        assert page.value("document.getElementById('device').textContent") == "pole-7"
        assert page.value("document.querySelectorAll('.box.edge').length") == 1
    found = [one for one in seen if one]
    assert len({one["left"] for one in found}) > 5
    assert {one["right"] - one["left"] for one in found} <= {SIDE - 1, SIDE, SIDE + 1}
    # Between a picture and its boxes a moment may pass, in which the object has gone on by a picture.
    on_it = [one for one in found if abs(one["box"][0] - one["left"]) <= 2]
    assert len(on_it) > 0.8 * len(found)
    assert page.complaints == []


def test_the_cloud_is_green_and_a_cut_link_shows(page: Page, tmp_path: Path) -> None:
    """Boxes that the cloud has seen; then it answers no more, and the page says that the link is down."""
    with scripted_cloud(says(sees)) as cloud:
        sections = {"mode": "cloud_only", "uplink": {"address": cloud.address, "breaker_failures": 2}}
        with live_street(tmp_path, **sections, deadline_s=1.0) as street:
            page.open(f"http://{street.address}/")
            page.until("document.querySelectorAll('.box.cloud').length === 1")
            page.until("document.querySelector('#results .who.cloud') !== null")
            cloud.behaviour = refuses(grpc.StatusCode.UNAVAILABLE)
            page.until("document.getElementById('state').textContent === 'link down'")
            page.until("document.querySelector('#link dd.bad') !== null")
            page.until("document.querySelectorAll('.box.edge').length === 1")


def test_the_fifth_page_says_that_there_is_no_place(page: Page, tmp_path: Path) -> None:
    """It tries again by itself, and sees something as soon as another has gone."""
    with live_street(tmp_path) as street, ExitStack() as others:
        for _ in range(MAX_VIEWERS):
            next(pictures(others.enter_context(street.stream("/live.mjpg"))))
            next(events(others.enter_context(street.stream("/events"))))
        page.open(f"http://{street.address}/")
        page.until("document.getElementById('state').textContent.startsWith('no place')")
        others.close()
        page.until(PAINTED)


@pytest.mark.parametrize("width", [1300, 400])
def test_four_cameras_fit_into_every_window(page: Page, tmp_path: Path, width: int) -> None:
    """One picture of four tiles with a box on each; nothing is wider than a phone's screen."""
    with live_street(tmp_path, cameras=4) as street:
        page.open(f"http://{street.address}/", width)
        page.until("document.querySelectorAll('.box').length === 4")
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.querySelectorAll('img').length") == 1
        assert street.daemon.live_view.hub.viewers == 1
        page.value("document.querySelectorAll('#cameras a')[2].click()")
        page.until("location.search === '?camera=cam1' && document.querySelectorAll('.box').length === 1")
