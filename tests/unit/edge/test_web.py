"""The live view's parts: what is kept for whom, where pictures are in a mosaic, who may ask."""

import os
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.config import convert_config
from spillover.common.errors import ConfigError
from spillover.edge.config import EdgeConfig
from spillover.edge.pipeline import Look
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.runtime.process import step_back
from spillover.edge.web.answers import COOKIE, guarded, send
from spillover.edge.web.hub import KEPT_EVENTS, KEPT_RESULTS, MAX_VIEWERS, QUEUE_ITEMS, Hub, Listener
from spillover.edge.web.mosaic import LONGEST_SIDE, canvas
from tests.support import edge_values

BASE = {"camera": {"source": "x"}, "model": {"folder": "m"}}
OPEN = {"metrics_address": "0.0.0.0:9464"}
TLS = {"tls": {"certificate": "pole.crt", "key": "pole.key"}}
TOKENS = {"tokens_file": "tokens.yaml"}
ANONYMOUS = {"allow_anonymous_network": True}
SETTINGS = object()


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def look(number: int = 0, settings: object = SETTINGS) -> Look:
    """A frame of camera `cam`."""
    job = SimpleNamespace(frame=SimpleNamespace(image=np.zeros((2, 3, 3), np.uint8)))
    return Look(job, edge_values.result(str(number)), settings)


def hub(clock: Clock | None = None, settings: object = SETTINGS) -> Hub:
    """A hub of one camera."""
    return Hub({"cam": lambda: settings}, clock or Clock())


def test_nothing_is_kept_while_nobody_watches() -> None:
    """A frame that comes before a viewer or after the last one has gone holds no memory."""
    found = hub()
    found.look(look())
    assert found.looks(["cam"]) == {}
    assert found.take_viewer()
    found.look(look())
    assert list(found.looks(["cam"])) == ["cam"]
    found.leave_viewer()
    assert found.looks(["cam"]) == {}


@pytest.mark.parametrize(("fps", "shown"), [(3, 30), (5, 50), (8, 50), (10, 50), (30, 50)])
def test_at_most_five_pictures_a_second_are_kept(fps: int, shown: int) -> None:
    """Whatever the camera's rate; as many on average, where it does not divide evenly."""
    clock = Clock()
    found = hub(clock)
    assert found.take_viewer()
    kept = set()
    for number in range(10 * fps):
        clock.now_s = 100.0 + number / fps + 1e-6
        found.look(look(number))
        kept.add(found.looks(["cam"])["cam"].result.frame_id)
    assert abs(len(kept) - shown) <= 1


def test_a_frame_of_former_settings_is_not_shown() -> None:
    """A reload may have added a mask: what was kept before it is gone at once."""
    now = [SETTINGS]
    found = Hub({"cam": lambda: now[0]}, Clock())
    assert found.take_viewer()
    found.look(look())
    now[0] = object()
    assert found.looks(["cam"]) == {}


def test_a_pause_keeps_no_pictures_until_it_ends() -> None:
    """What was kept goes, nothing new is kept, results go on; then pictures come again."""
    clock = Clock()
    found = hub(clock)
    listener = found.listen(["cam"])
    found.look(look(1))
    found.pause("84 C")
    assert (found.looks(["cam"]), found.paused) == ({}, "84 C")
    clock.now_s += 1
    found.look(look(2))
    found.result(edge_values.result("2"))
    assert [type(one).__name__ for one in listener.take(0.0)] == ["Shown", "Result"]
    assert found.looks(["cam"]) == {}
    found.pause("")
    found.look(look(3))
    assert found.looks(["cam"])["cam"].result.frame_id == "3"


def test_so_many_view_and_listen_and_no_more() -> None:
    """One more is refused until one has gone."""
    found = hub()
    assert [found.take_viewer() for _ in range(MAX_VIEWERS + 1)] == [True] * MAX_VIEWERS + [False]
    found.leave_viewer()
    assert found.take_viewer()
    listeners = [found.listen(["cam"]) for _ in range(MAX_VIEWERS + 1)]
    assert listeners.pop() is None
    assert None not in listeners
    found.leave_listener(listeners[0])
    assert found.listen(["cam"]) is not None


def test_a_slow_listener_loses_the_oldest_and_it_is_counted() -> None:
    """The queue has a bound; what is new is there, and both sides know how much was lost."""
    found = hub()
    listener = found.listen(["cam"])
    for number in range(QUEUE_ITEMS + 3):
        found.result(edge_values.result(str(number)))
    taken = [one.frame_id for one in listener.take(0.0)]
    assert taken == [str(number) for number in range(3, QUEUE_ITEMS + 3)]
    assert (listener.dropped, found.results_dropped) == (3, 3)
    found.close()
    assert listener.take(60.0) is None


def test_a_listener_of_one_camera_hears_of_it_alone() -> None:
    """Results of others pass it by."""
    found = Hub({"cam": lambda: SETTINGS, "door": lambda: SETTINGS}, Clock())
    listener = found.listen(["door"])
    found.result(edge_values.result("a"))
    found.result(replace(edge_values.result("b"), camera_id="door"))
    assert [one.frame_id for one in listener.take(0.0)] == ["b"]


def test_results_are_asked_for_by_number() -> None:
    """Each once; a number of an earlier run of the daemon gives all that is kept, which has a bound."""
    found = hub()
    for number in range(KEPT_RESULTS + 10):
        found.result(edge_values.result(str(number)))
    kept = found.results.since(0)
    assert (len(kept), kept[0].number, kept[-1].number) == (KEPT_RESULTS, 11, KEPT_RESULTS + 10)
    assert [one.number for one in found.results.since(kept[-3].number)] == [kept[-2].number, kept[-1].number]
    assert found.results.since(kept[-1].number) == []
    assert found.results.since(10**9) == kept


def test_what_waits_for_a_slow_listener_has_no_pixels() -> None:
    """Frames are megabytes: a client that does not read its events must not hold one for each of them."""
    clock = Clock()
    found = hub(clock)
    listener = found.listen(["cam"])
    frames = []
    for number in range(QUEUE_ITEMS):
        found.look(one := look(number))
        frames.append(weakref.ref(one.job.frame.image))
        clock.now_s += 1
    found.pause("whatever")
    del one
    assert [frame() for frame in frames] == [None] * QUEUE_ITEMS
    assert [shown.size for shown in listener.take(0.0)] == [(3, 2)] * QUEUE_ITEMS


def test_rare_events_outlast_frequent_ones() -> None:
    """Each kind has its own bound; those of every frame are kept for who asks and not told to listeners."""
    found = hub()
    listener = found.listen(["cam"])
    found.event(Event(EventKind.STARTED, 1.0))
    for number in range(10 * KEPT_EVENTS):
        found.event(Event(EventKind.DROPPED, 2.0 + number, {"camera_id": "cam"}))
    found.event(Event(EventKind.ENTER, 9.0, {"camera_id": "door"}))
    kept = found.events.since(0)
    assert [one.item.kind.value for one in kept] == ["started", *["dropped"] * KEPT_EVENTS, "enter"]
    assert [one.number for one in kept] == sorted(one.number for one in kept)
    assert found.events.since(kept[-2].number) == kept[-1:]
    assert [one.kind for one in listener.take(0.0)] == [EventKind.STARTED]


def test_a_stop_ends_every_wait() -> None:
    """Who waits for a picture or listens is woken; nobody new is let in."""
    found = hub()
    listener = Listener(frozenset())
    listener.close()
    assert listener.take(60.0) is None
    found.close()
    assert found.wait(10, 60.0) == (0, False)
    assert not found.take_viewer()
    assert found.listen(["cam"]) is None


def test_a_viewer_steps_back_and_the_pipeline_does_not() -> None:
    """The thread of a stream is nicer than the process, however nice that is; others are as they were."""
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []

    def stream() -> None:
        for _ in range(5):
            step_back()
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=stream)
    thread.start()
    thread.join()
    assert seen == [min(19, before + 5 * turn) for turn in range(1, 6)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@given(st.lists(st.none() | SIZES, min_size=1, max_size=16))
def test_tiles_are_inside_the_picture_and_do_not_touch_each_other(sizes) -> None:
    """Each camera has a place of its own, of its shape, in a picture of at most 640 pixels."""
    (width, height), tiles = canvas(sizes)
    assert max(width, height) <= LONGEST_SIDE
    assert len(tiles) == len(sizes)
    painted = np.zeros((height, width), np.uint8)
    for tile, size in zip(tiles, sizes, strict=True):
        right, bottom = tile.left + tile.width, tile.top + tile.height
        assert 0 <= tile.left < right <= width
        assert 0 <= tile.top < bottom <= height
        painted[tile.top : bottom, tile.left : right] += 1
        if size and min(tile.width, tile.height) > 50:
            assert tile.width / tile.height == pytest.approx(size[0] / size[1], rel=0.05)
    assert painted.max() == 1


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({}, "live_view: needs metrics_address"),
        (OPEN, "metrics_address: 0.0.0.0:9464 can be reached from the network: set security.tls, or"),
        (OPEN, "metrics_address: 0.0.0.0:9464 can be reached from the network: set security.tokens_file, or"),
        (OPEN | {"security": TOKENS}, "set security.tls, or security.allow_plaintext_network: true"),
        (OPEN | {"security": TLS}, "set security.tokens_file, or security.allow_anonymous_network: true"),
        (OPEN | {"security": TLS | ANONYMOUS}, "live_view: 0.0.0.0:9464 can be reached from the network"),
        (OPEN | {"metrics_address": "[::]:9464"}, "can be reached from the network"),
        (OPEN | {"metrics_address": "pole-7:9464"}, "can be reached from the network"),
    ],
)
def test_a_page_for_the_network_is_refused_without_encryption_and_tokens(keys, why) -> None:
    """By the cloud's rule and in its words; pictures are not even for all whom it would allow."""
    with pytest.raises(ConfigError) as refused:
        convert_config(BASE | keys | {"live_view": True}, EdgeConfig, "edge.yaml")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"live_view": True, "security": {**TLS, **TOKENS}},
        {"live_view": True, "security": TOKENS | {"allow_plaintext_network": True}},
        {"security": TLS | ANONYMOUS},
        {"security": {"allow_plaintext_network": True} | ANONYMOUS},
    ],
)
def test_a_page_for_the_network_starts_with_what_it_needs(keys) -> None:
    """Metrics may be for everybody, where that is asked for."""
    convert_config(BASE | OPEN | keys, EdgeConfig, "edge.yaml")


@pytest.mark.parametrize("address", ["127.0.0.1:9464", "localhost:9464", "[::1]:9464", "127.8.8.8:1"])
def test_a_page_for_this_machine_is_not(address: str) -> None:
    """Loopback in its several spellings."""
    convert_config(BASE | {"metrics_address": address, "live_view": True}, EdgeConfig, "edge.yaml")


def asked(methods: tuple[str, ...] = ("GET", "HEAD"), *, is_local: bool = True, **environ: str) -> int:
    """The status of a request for the page `/x`, which takes `camera`; each refusal is counted by a cause."""
    statuses: list[str] = []
    causes: list[str] = []

    def respond(environ, start_response, _):
        return send(environ, start_response, "text/plain", b"hello")

    base = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "QUERY_STRING": ""}
    page = guarded(respond, causes.append, ["camera"], methods, is_local=is_local)
    body = page(base | environ, lambda status, _: statuses.append(status))
    assert b"".join(body).endswith((b"hello", b"\n")) or base | environ != base
    assert len(causes) == (statuses[0] != "200 OK")
    return int(statuses[0].split()[0])


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, 200),
        ({"REQUEST_METHOD": "HEAD"}, 200),
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"REQUEST_METHOD": "DELETE"}, 405),
        ({"REQUEST_METHOD": "X" * 5000}, 405),
        *(({"HTTP_HOST": host}, 200) for host in ("127.0.0.1:9464", "localhost", "[::1]", "[::1]:80")),
        *(({"HTTP_HOST": host}, 403) for host in ("evil.test", "evil.test:9464", "192.0.2.7", "", "[")),
        ({"HTTP_HOST": "127.0.0.1.evil.test:80"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "none"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate", "PATH_INFO": "/"}, 200),
        ({"QUERY_STRING": "camera=door"}, 200),
        ({"QUERY_STRING": "camera=a&camera=b"}, 400),
        ({"QUERY_STRING": "token=secret"}, 400),
        ({"QUERY_STRING": "&".join(f"camera{n}=" for n in range(99))}, 400),
    ],
)
def test_who_may_ask_and_how(environ: dict[str, str], status: int) -> None:
    """GET and HEAD, under this machine's own name, from no other site's page, with known fields alone."""
    assert asked(**environ) == status


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, 200),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate", "PATH_INFO": "/x"}, 403),
        ({"HTTP_ORIGIN": "https://pole-7:9464"}, 200),
        ({"HTTP_ORIGIN": "https://evil.test"}, 403),
        ({"HTTP_ORIGIN": "null"}, 403),
        ({COOKIE: "1"}, 403),
        ({COOKIE: "1", "HTTP_ORIGIN": "https://pole-7:9464"}, 200),
        ({COOKIE: "1", "HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"REQUEST_METHOD": "GET"}, 405),
    ],
)
def test_who_may_send_something(environ: dict[str, str], status: int) -> None:
    """Programs with a token, and browsers that say that they send it from this page."""
    base = {"REQUEST_METHOD": "POST", "HTTP_HOST": "pole-7:9464"}
    assert asked(("POST",), is_local=False, **base | environ) == status
