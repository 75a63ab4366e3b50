"""The whole daemon with payload video against a real server: answers, bytes, a restart, faults, the spool."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.types import Image
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.link.byte_budget import SavedTokens
from spillover.edge.status.text import to_text
from spillover.lab.records import Record, read_records
from tests.support.faulty_calls import FaultyCalls, Troubles
from tests.support.models import bright_detector
from tests.support.serving import cloud_config, serving

pytestmark = pytest.mark.slow

FRAMES = 30
WIDTH, HEIGHT, SHOWN = 320, 240, 208
A_MINUTE_S = 60.0
BUCKET_BYTES, SELDOM_S = 8_000, 86_400
"""Less than a connection and a key; pings so rare that this can pay for them."""
NEAR = 0.005
"""Of the brightness from 0 to 1; frames that follow each other differ by more than twice that."""


def street(number: int) -> Image:
    """Frame `number` of a street that stands still, on which a bar of light grows."""
    noise = np.random.default_rng(7).integers(0, 255, (HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    ground = cv2.GaussianBlur(cv2.resize(noise, (WIDTH, HEIGHT)), (0, 0), 1.2)
    image = (ground * 0.6).astype(np.uint8)
    image[:, : 8 * (number + 1)] = np.minimum(255, image[:, : 8 * (number + 1)].astype(int) + 120)
    return image


class Site:
    """A clip, and a detector here and at the cloud: each answer tells how bright its picture was."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pictures = folder, folder / "pictures"
        self.pictures.mkdir()
        for number in range(FRAMES):
            cv2.imwrite(str(self.pictures / f"{number:03}.png"), street(number))
        self.local = bright_detector(folder / "edge", "here", box=(0, 0, 0.2, 0.2))
        bright_detector(folder / "cloud", "there", side=64)
        self.runs = 0

    def daemon(self, address: str, payload: str, **sections: Any) -> tuple[Daemon, Path]:
        """A daemon that was not started, and where its records go. It sends one frame after the other."""
        self.runs += 1
        output = self.folder / f"{self.runs}.jsonl"
        uplink = {
            "address": address,
            "payload": payload,
            "video": {"longest_side": SHOWN, "crf": 28},
            "max_in_flight": 1,
        }
        values: dict[str, Any] = {
            "camera": {"source": str(self.pictures), "pace": "fast"},
            "model": {"folder": str(self.local), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(output), "decision": "full"}],
            "mode": "cloud_only",
            "tracking": None,
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": A_MINUTE_S,
            "uplink": uplink | sections.pop("uplink", {}),
        }
        return Daemon(msgspec.convert(values | sections, EdgeConfig)), output

    def run(self, address: str, payload: str, **sections: Any) -> tuple[Daemon, list[Record]]:
        """Run to the end of the clip; the records in the order of capture."""
        daemon, output = self.daemon(address, payload, **sections)
        daemon.run()
        return daemon, sorted(read_records(output), key=lambda record: record.sequence)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One clip for all tests here."""
    return Site(tmp_path_factory.mktemp("site"))


@contextmanager
def cloud(site: Site, **changes: Any) -> Iterator[str]:
    """The address of a server that knows no stream yet."""
    with serving(cloud_config(site.folder / "cloud", **changes)) as server:
        yield server.address


def brightness(number: int) -> float:
    """What the cloud should say of a frame."""
    return float(street(number).mean() / 255)


def check_right(record: Record) -> None:
    """Its answer is to its own picture, in pixels of the frame."""
    (box,) = record.boxes
    assert box.confidence == pytest.approx(brightness(record.sequence), abs=NEAR)
    assert box.xyxy == pytest.approx([WIDTH * 0.25, HEIGHT * 0.25, WIDTH * 0.75, HEIGHT * 0.75], abs=0.5)


def counted(daemon: Daemon) -> tuple[Counter[str], Counter[str]]:
    """Keys by cause, and bytes sent by kind."""
    counts = daemon.metrics.counts()
    return Counter(counts.keys), Counter(counts.payload_bytes)


def test_frames_differ_by_more_than_answers_may() -> None:
    """Else the tests below would see no wrong answer."""
    steps = np.diff([brightness(number) for number in range(FRAMES)])
    assert steps.min() > 2 * NEAR


def test_answers_are_those_to_jpeg_and_bytes_a_tenth(site: Site) -> None:
    """Every frame of the clip; one key. JPEG has the same number of pixels."""
    with cloud(site) as address:
        small = {"longest_side": SHOWN, "jpeg_quality": 70}
        usual, as_jpeg = site.run(address, "picture", uplink=small)
        daemon, as_video = site.run(address, "video")
    for one, other in zip(as_jpeg, as_video, strict=True):
        assert (one.answered_by, other.answered_by) == ("cloud", "cloud")
        check_right(one)
        check_right(other)
        assert other.boxes[0].confidence == pytest.approx(one.boxes[0].confidence, abs=NEAR)
        assert other.decision.payload == "video"
    keys, sent = counted(daemon)
    assert keys == {"first": 1}
    assert set(sent) == {"video"}
    assert sent["video"] < counted(usual)[1]["picture"] / 10
    text = to_text(daemon.status())
    assert "video: H.264 of 208 pixels, crf 28; keys: first 1" in text


def test_a_restart_of_the_server_costs_one_key_and_no_wrong_answer(site: Site) -> None:
    """It forgets the stream in the middle of the clip."""
    with cloud(site) as before, cloud(site) as after:
        answered = Counter[str]()

        def watch(server: str, request: bytes, reply: bytes) -> None:
            answered[server] += 1
            if answered[before] == FRAMES // 2 and not answered[after]:
                proxy.lead_to(after)

        with FaultyCalls(before, watch=watch) as proxy:
            daemon, records = site.run(proxy.address, "video")
    assert [record.answered_by for record in records] == ["cloud"] * FRAMES
    for record in records:
        check_right(record)
    keys, _ = counted(daemon)
    assert keys == {"first": 1, "lost": 1}
    assert daemon.metrics.counts().calls == {"ok": FRAMES, "reference_lost": 1}
    assert min(answered.values()) == FRAMES // 2


def test_calls_that_are_lost_late_repeated_and_reordered_give_no_wrong_answer(site: Site) -> None:
    """Several at a time; what is answered is right, and the books balance."""
    troubles = Troubles(request_lost=0.1, reply_lost=0.1, repeated=0.15, delayed=0.15, reordered=0.15)
    with cloud(site) as address, FaultyCalls(address, seed=3) as proxy:
        proxy.set(troubles)
        daemon, records = site.run(proxy.address, "video", uplink={"max_in_flight": 4})
    assert len(records) == FRAMES
    answered = [record for record in records if record.answered_by == "cloud"]
    assert len(answered) > FRAMES // 2
    for record in answered:
        check_right(record)
    assert sum(proxy.counts[kind] for kind in ("request_lost", "reply_lost", "repeated", "reordered")) > 5
    status = daemon.status()
    assert status.frames.cloud + status.frames.edge_degraded == FRAMES


def test_a_server_without_room_for_streams_gets_pictures(site: Site) -> None:
    """Refused once; the same frame and all that follow go as JPEG, and the record says why."""
    with cloud(site, limits={"stream_bytes": 0}) as address:
        daemon, records = site.run(address, "video")
    assert [record.answered_by for record in records] == ["cloud"] * FRAMES
    for record in records:
        check_right(record)
    assert records[0].decision.fallback.startswith("stream_refused")
    keys, sent = counted(daemon)
    assert keys == {"first": 1}
    assert sent["picture"] > sent["video"] > 0
    assert daemon.metrics.counts().calls == {"ok": FRAMES, "stream_refused": 1}


def test_frames_of_an_outage_wait_as_pictures(site: Site, tmp_path: Path) -> None:
    """What was coded for a server that does not answer is stored as a JPEG, which needs nothing before it."""
    spool = {"path": str(tmp_path / "spool.dat"), "max_mb": 8.0, "answer_timeout_s": 30.0}
    with cloud(site) as address, FaultyCalls(address, seed=1) as proxy:
        proxy.set(Troubles(request_lost=1.0))
        camera = {"source": str(site.pictures), "pace": "fast", "max_frames": 6}
        daemon, output = site.daemon(proxy.address, "video", spool=spool, camera=camera)
        daemon.run()
    degraded = [record for record in read_records(output) if not record.revision]
    assert {record.answered_by for record in degraded} == {"edge_degraded"}
    pending = daemon.status().spool
    assert pending is not None
    assert pending.pending > 0
    assert b"\xff\xd8\xff" in Path(spool["path"]).read_bytes()


def test_a_budget_that_never_pays_for_a_key_gets_pictures_and_the_status_says_so(site: Site) -> None:
    """Small ones, which fit its bucket; not a byte of video leaves."""
    state = site.folder / "left.json"
    SavedTokens(state).save(BUCKET_BYTES)
    budget = {
        "bytes": 10 * BUCKET_BYTES,
        "per": "day",
        "bucket_bytes": BUCKET_BYTES,
        "state_file": str(state),
    }
    uplink = {
        "variants": [{"jpeg_quality": 20, "longest_side": 48, "fidelity": 0.9}],
        "keepalive_s": SELDOM_S,
    }
    said: list[str] = []
    with (
        cloud(site) as address,
        FaultyCalls(address, watch=lambda *_: said.append(to_text(daemon.status()))) as proxy,
    ):
        daemon, output = site.daemon(proxy.address, "video", uplink=uplink, policy={"budget": budget})
        daemon.run()
    keys, sent = counted(daemon)
    assert keys == {"first": 1}
    assert sent["picture"] > 0
    assert not sent["video"]
    assert sum(record.answered_by == "cloud" for record in read_records(output)) > 1
    assert "JPEG now: camera (too_large); keys: first 1" in said[0]
