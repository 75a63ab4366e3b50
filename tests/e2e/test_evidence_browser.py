"""A clip of evidence in a real browser: it plays to its end and shows its pictures."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from spillover.common.images import encode_jpeg
from spillover.common.video.mp4 import clip_of
from tests.support.chromium import chromium

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(300)]

PAGE = b'<!doctype html><link rel="icon" href="data:,"><video muted src="clip.mp4"></video>'
MEAN = """(() => {
  const [video, canvas] = [document.querySelector("video"), document.createElement("canvas")];
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) { sum += data[at]; }
  return sum / (data.length / 4);
})()"""
"""How red the picture is that the player shows, from 0 to 255."""


def test_a_browser_plays_a_clip(tmp_path: Path) -> None:
    """Two seconds that grow brighter: length, size, and the last picture, which is of the right shade."""
    pytest.importorskip("av", reason="PyAV (extra `video`) is not installed")
    shades = [10 * number for number in range(21)]
    pictures = [encode_jpeg(np.full((240, 320, 3), shade, np.uint8), 90).data for shade in shades]
    clip = clip_of((number / 10, picture) for number, picture in enumerate(pictures))
    (tmp_path / "clip.mp4").write_bytes(clip)
    (tmp_path / "index.html").write_bytes(PAGE)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with chromium(tmp_path) as page:
                page.open(f"http://127.0.0.1:{server.server_port}/index.html")
                page.until("document.querySelector('video').readyState >= 3")
                assert page.value(MEAN) == pytest.approx(0, abs=6)
                page.value("document.querySelector('video').play()")
                page.until("document.querySelector('video').ended")
                assert page.value("document.querySelector('video').duration") == pytest.approx(2.1, abs=0.15)
                assert page.value("document.querySelector('video').videoWidth") == 320
                assert page.value(MEAN) == pytest.approx(200, abs=6)
                assert page.complaints == []
        finally:
            server.shutdown()
            thread.join()
