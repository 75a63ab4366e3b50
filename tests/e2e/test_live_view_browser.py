"""The live view in a real browser: the picture moves, boxes sit on their objects, a cut link shows."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from spillover.common.security.tokens import add_token
from spillover.edge.web.hub import MAX_VIEWERS
from tests.support.chromium import Page, chromium
from tests.support.live_view import SIDE, live_street, sees
from tests.support.pki import Pki
from tests.support.scripted_cloud import refuses, scripted_cloud
from tests.support.tracked import says, until

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(300)]

PAINTED = """(() => {
  const [canvas, picture] = [document.createElement("canvas"), document.getElementById("picture")];
  const boxes = [...document.querySelectorAll(".box")];
  if (!picture?.naturalWidth || boxes.length !== 1) return null;
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

STATE = "document.getElementById('state').textContent"
HIDDEN = """(() => {
  Object.defineProperty(document, "hidden", { get: () => %s, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
})()"""
"""Has a page believe that nobody sees it, or somebody."""
SIGN_IN = """(() => {
  document.getElementById("token").value = "%s";
  document.querySelector("main.login button").click();
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """A page of one test, with cookies and complaints of its own."""
    opened = browser.beside()
    yield opened
    opened.close()


def test_boxes_sit_on_the_objects_of_a_picture_that_moves(page: Page, tmp_path: Path) -> None:
    """The pixels of the picture and the box beside them, many times while the object walks; no complaint."""
    with live_street(tmp_path) as street:
        page.open(f"http://{street.address}/")
        page.until(PAINTED)
        seen = [
            page.value(PAINTED) for _ in range(60) if page.value("new Promise(r => setTimeout(r, 50, 1))")
        ]
        assert page.value(STATE) == "live"
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
            page.until(f"{STATE} === 'link down'")
            page.until("document.querySelector('#link dd.bad') !== null")
            page.until("document.querySelectorAll('.box.edge').length === 1")


def test_four_pages_see_and_the_fifth_says_why_it_does_not(page: Page, tmp_path: Path) -> None:
    """Each of four browsers sees boxes on a picture; a page that nobody sees makes room for the fifth."""
    with live_street(tmp_path) as street:
        pages = [page, *(page.beside() for _ in range(MAX_VIEWERS - 1))]
        for one in pages:
            one.open(f"http://{street.address}/")
            one.until(PAINTED)
        hub = street.daemon.live_view.hub
        assert hub.viewers == MAX_VIEWERS
        fifth = page.beside()
        fifth.open(f"http://{street.address}/")
        fifth.until(f"{STATE} === '{MAX_VIEWERS} pages look already, and no more may; try again later'")
        pages[1].value(HIDDEN % "true")
        fifth.until(PAINTED)
        assert fifth.until(f"{STATE} === 'live'")
        assert hub.viewers == MAX_VIEWERS
        assert [one.complaints for one in pages] == [[]] * MAX_VIEWERS
        for one in (*pages[1:], fifth):
            one.close()


def test_a_person_signs_in_and_out_over_tls(page: Page, tmp_path: Path) -> None:
    """The page leads to the form; a wrong token is told, the right one shows the picture."""
    pki, tokens = Pki(tmp_path / "ca"), tmp_path / "tokens.yaml"
    token = add_token(tokens, "ladder", "viewer", None)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    context = ssl.create_default_context(cafile=pki.ca)
    with live_street(tmp_path, context=context, security=security) as street:
        root = f"https://{street.address}/"
        page.open(root, 400, ends_at=f"{root}login")
        page.value(SIGN_IN % "ladder~wrong")
        page.until("document.querySelector('[role=alert]')?.textContent === 'this token is not known here'")
        assert "401" in page.complaints.pop()  # the browser's own remark on the answer
        page.value(SIGN_IN % token)
        page.until(f"location.href === '{root}' && {PAINTED}")
        assert page.value("document.cookie") == ""
        page.until("!document.getElementById('leave').hidden")
        page.value("document.querySelector('#leave button').click()")
        page.until(f"location.href === '{root}login' && document.readyState === 'complete'")
        assert page.value("fetch('/api/v1/status').then((answer) => answer.status)") == 401
        until(lambda: street.daemon.live_view.hub.viewers == 0)
        page.complaints.pop()
    assert page.complaints == []


def test_events_and_all_that_the_status_has_are_told(page: Page, tmp_path: Path) -> None:
    """What tracked objects do; zones with their counts; readings with units; a pause with its reason."""
    zone = {"name": "yard", "polygon": [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]]}
    with live_street(tmp_path, tracking={}, events={"zones": [zone]}) as street:
        page.open(f"http://{street.address}/", 400)
        page.until(
            "[...document.querySelectorAll('#events .who')].some((one) => one.textContent === 'enter')"
        )
        page.until("[...document.querySelectorAll('text.zone')].some((one) => one.textContent === 'yard: 1')")
        shown = page.value("document.getElementById('health').textContent")
        assert "process anon" in shown
        assert "MB" in shown
        street.daemon.live_view.pause("84 C at the processor")
        page.until(f"{STATE} === 'pictures are paused'")
        page.until("document.querySelector('text.lost').textContent.includes('84 C at the processor')")
        street.daemon.live_view.resume()
        page.until(f"{STATE} === 'live' && !document.querySelector('text.lost')")
    assert page.complaints == []


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
