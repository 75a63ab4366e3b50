"""The whole daemon with a split network: features sent, fallen back from, and alone on the wire."""

import shutil
import threading
from collections import Counter

import cv2
import msgspec
import pytest

from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import open_split_plan, write_split_plan
from spillover.common.types import Action
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.payload.encoder import PICTURE
from spillover.edge.payload.features import FeatureEncoder
from spillover.lab.records import read_records
from spillover.lab.split.early_exit.exits import build_early_exit
from spillover.lab.terminal import Silent
from tests.support.models import colour_classifier
from tests.support.scripted_cloud import no_server_address
from tests.support.serving import cloud_config, serving
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier
from tests.support.wiretap import wiretap

pytestmark = pytest.mark.slow

FRAMES = 6
JPEG_START = b"\xff\xd8\xff"
FEATURES_START = b"SF\x01"
CHANGES_START = b"SF\x02"
A_MINUTE_S = 60.0
_GOES_ON = {"loop": True, "pace": "realtime", "fps": 20}


class Site:
    """A cloud's repository with a split model, pictures for a camera, and daemons between the two."""

    def __init__(self, folder):
        self.folder = folder
        self.runs = 0
        self.model = residual_classifier(folder / "cloud")
        split_classifier(self.model)
        self.cut = open_split_plan(open_model_folder(self.model)).cuts[0].name
        self.local = colour_classifier(folder / "edge")
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        for number, picture in enumerate(coloured_pictures(FRAMES, seed=3)):
            cv2.imwrite(str(self.pictures / f"{number}.png"), picture.image())

    def run(self, address, payload, heads=None, local=None, **sections):
        """Send every picture in mode `cloud_only`; the records, by order of capture."""
        daemon, output = self.daemon(address, payload, heads, local, **sections)
        daemon.run()
        return sorted(read_records(output), key=lambda record: record.sequence)

    def daemon(self, address, payload, heads=None, local=None, **sections):
        """A daemon that was not started, and where its records go."""
        self.runs += 1
        output = self.folder / f"{self.runs}.jsonl"
        values = {
            "camera": {"source": str(self.pictures), "pace": "fast"},
            "model": {"folder": str(local or self.local), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(output), "decision": "full"}],
            "mode": "cloud_only",
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": A_MINUTE_S,
            "uplink": {
                "address": address,
                "payload": payload,
                "split": {
                    "folder": str(heads or self.model),
                    "cuts": [self.cut],
                    "session": {"threads": 1},
                },
            },
        }
        for name, section in sections.items():
            values[name] = values.get(name, {}) | section if isinstance(section, dict) else section
        return Daemon(msgspec.convert(values, EdgeConfig)), output


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One site for all tests here."""
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def address(site):
    """Where its cloud listens."""
    with serving(cloud_config(site.folder / "cloud")) as server:
        yield server.address


def _stale_heads(site, folder):
    """The split model as it was before the cloud got another version: same names, other heads."""
    stale = folder / "stale"
    shutil.copytree(residual_classifier(folder, seed=9), stale)
    split_classifier(stale)
    (stale / "split").rename(stale / "old")
    plan = open_split_plan(open_model_folder(stale))
    site_cut = msgspec.structs.replace(plan.cuts[0], name=site.cut)
    text = msgspec.yaml.encode(msgspec.to_builtins(msgspec.structs.replace(plan, cuts=(site_cut,))))
    (stale / "split.yaml").write_bytes(text)
    (stale / "split").mkdir()
    for half in ("head", "tail"):
        shutil.copy(
            stale / "old" / f"{plan.cuts[0].name}.{half}.onnx", stale / "split" / f"{site.cut}.{half}.onnx"
        )
    return stale


def test_features_are_sent_and_answered(site, address):
    """Every frame goes as features of the cut, is said to, and has the whole network's answer."""
    whole = Model.load(site.model, SessionConfig(threads=1))
    records = site.run(address, "features")
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert {r.decision.action for r in records} == {Action.SEND_FEATURES}
    agree = [
        record.classes[0].class_id == whole.predict(picture.image())[0].class_id[0]
        for record, picture in zip(records, coloured_pictures(FRAMES, seed=3), strict=True)
    ]
    assert sum(agree) >= FRAMES - 1


def test_no_pixels_leave_the_device_with_features_only(site, address):
    """On the wire are features and no JPEG; the same tap does see the JPEGs when pictures are sent."""
    with wiretap(address) as tap:
        records = site.run(tap.address, "features_only")
        sent = tap.sent
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert sent.count(FEATURES_START) + sent.count(CHANGES_START) == FRAMES
    assert JPEG_START not in sent
    with wiretap(address) as tap:
        site.run(tap.address, "picture")
        assert tap.sent.count(JPEG_START) == FRAMES


def _tapped(site, address, payload, **sections):
    """What a daemon sent, and its records."""
    with wiretap(address) as tap:
        records = site.run(tap.address, payload, **sections)
        return tap.sent, records


def test_no_pixels_leave_with_audits_and_second_looks(site, address):
    """In mode `hybrid`, where random frames are audited and the model looks twice, features alone leave."""
    sections = {
        "mode": "hybrid",
        "policy": {"audit_share": 1.0, "threshold": 0.5},
        "model": {"multi_view": {"below": 1.0}},
    }
    sent, records = _tapped(site, address, "features_only", **sections)
    assert {r.decision.reason for r in records} == {"audit"}
    assert sent.count(FEATURES_START) + sent.count(CHANGES_START) == FRAMES
    assert JPEG_START not in sent


def _drained(site, address, payload, spool, fate):
    """What a daemon sent until every frame that waited in `spool` met `fate`."""
    with wiretap(address) as tap:
        daemon, _ = site.daemon(tap.address, payload, spool={"path": str(spool)}, camera=_GOES_ON)
        _run_until(daemon, lambda: daemon.metrics.summary().get(f"spool_frames[{fate}]", 0) >= FRAMES)
        return tap.sent


def _run_until(daemon, is_seen):
    """Run a daemon until something is so; fails after a minute."""
    runner = threading.Thread(target=daemon.run)
    runner.start()
    pause = threading.Event()
    seen = False
    for _ in range(int(A_MINUTE_S * 50)):
        if seen := is_seen():
            break
        pause.wait(0.02)
    daemon.stop("seen enough")
    runner.join(A_MINUTE_S)
    assert seen


def test_no_pixels_wait_on_the_disk_or_leave_from_there(site, address, tmp_path):
    """While no server is there features wait; they leave when it is back."""
    spool = tmp_path / "spool.dat"
    records = site.run(no_server_address(), "features_only", spool={"path": str(spool)})
    assert [r.answered_by for r in records] == ["edge_degraded"] * FRAMES
    waiting = spool.read_bytes()
    assert waiting.count(FEATURES_START) == FRAMES
    assert JPEG_START not in waiting
    sent = _drained(site, address, "features_only", spool, "answered")
    assert JPEG_START not in sent
    assert sent.count(FEATURES_START) >= FRAMES


def test_pictures_that_wait_do_not_leave_once_only_features_may(site, address, tmp_path):
    """Spooled while pictures were allowed: they are given up, never sent."""
    spool = tmp_path / "spool.dat"
    site.run(no_server_address(), "picture", spool={"path": str(spool)})
    assert spool.read_bytes().count(JPEG_START) == FRAMES
    sent = _drained(site, address, "features_only", spool, "failed")
    assert JPEG_START not in sent
    assert FEATURES_START in sent


def test_features_only_stays_so_when_the_server_has_no_tail(site, address, tmp_path):
    """Heads of another version: each frame keeps its local answer, and still no picture is sent."""
    with wiretap(address) as tap:
        records = site.run(tap.address, "features_only", _stale_heads(site, tmp_path))
        assert JPEG_START not in tap.sent
    assert {r.answered_by for r in records} == {"edge_degraded"}
    assert all("failed_precondition" in r.error for r in records)


def test_features_fall_back_to_pictures_when_the_server_has_no_tail(site, address, tmp_path):
    """Heads of another version, pictures allowed: every frame is answered by the cloud all the same."""
    with wiretap(address) as tap:
        records = site.run(tap.address, "features", _stale_heads(site, tmp_path))
        sent = tap.sent
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert sent.count(JPEG_START) == FRAMES
    refused = sent.count(FEATURES_START)
    assert 1 <= refused <= FRAMES
    # Each record says what left for it in the end, and those that fell back say why.
    assert {(r.decision.action, r.decision.payload) for r in records} == {(Action.SEND_FRAME, PICTURE)}
    assert [r.decision.fallback.partition(":")[0] for r in records if r.decision.fallback] == [
        "failed_precondition"
    ] * refused


def test_features_go_as_changes_once_the_cloud_has_some(site, address):
    """One key, then changes against what was answered, for as long as the camera goes on."""
    with wiretap(address) as tap:
        daemon, output = site.daemon(tap.address, "features_only", camera=_GOES_ON)
        _run_until(daemon, lambda: tap.sent.count(CHANGES_START) >= FRAMES)
        assert JPEG_START not in tap.sent
    assert daemon.metrics.summary()["stream_keys[features,first]"] == 1
    assert Counter(record.answered_by for record in read_records(output))["cloud"] >= FRAMES


def test_features_go_alone_where_the_cloud_keeps_no_streams(site):
    """Each is answered, the first at its second try, and no picture takes their place."""
    config = cloud_config(site.folder / "cloud", limits={"stream_bytes": 0})
    with serving(config) as server, wiretap(server.address) as tap:
        records = site.run(tap.address, "features_only")
        sent = tap.sent
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert sent.count(FEATURES_START) > FRAMES
    assert CHANGES_START not in sent
    assert JPEG_START not in sent


def test_auto_logs_what_each_form_was_expected_to_take(site, address):
    """The choice can be replayed: the predicted latency of picture and cut is in every decision."""
    for record in site.run(address, "auto"):
        assert {"latency_s.picture", f"latency_s.{site.cut}"} <= set(record.decision.inputs)
        assert record.decision.action in {Action.SEND_FRAME, Action.SEND_FEATURES}
        assert record.answered_by == "cloud"


def test_an_early_exit_sends_the_features_of_its_own_trunk(site, address, tmp_path, monkeypatch):
    """The edge's model is an exit on the cut's head: what is sent was computed once, and is the same."""
    exit_folder = tmp_path / "exit"
    build_early_exit(site.model, site.cut, exit_folder, coloured_pictures(32), 0.0, Silent())
    heads, heads_run = _without_streams(site, tmp_path), []
    monkeypatch.setattr(FeatureEncoder, "_run", _counting(FeatureEncoder._run, heads_run))
    with wiretap(address) as tap:
        records = site.run(tap.address, "features_only", heads, local=exit_folder)
        shared = _payloads(tap.sent)
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert len(heads_run) == 1  # the check when the head is loaded
    with wiretap(address) as tap:
        site.run(tap.address, "features_only", heads)
        assert sorted(_payloads(tap.sent)) == sorted(shared)
    heads_run.clear()
    records = site.run(address, "features_only", local=exit_folder)  # as changes
    assert [r.answered_by for r in records] == ["cloud"] * FRAMES
    assert len(heads_run) == 1


def _without_streams(site, folder):
    """The same heads, planned for features that go alone: their bytes do not depend on when answers come."""
    copy = folder / "alone"
    shutil.copytree(site.model, copy)
    plan = open_split_plan(open_model_folder(copy))
    cuts = tuple(msgspec.structs.replace(cut, inter=None) for cut in plan.cuts)
    write_split_plan(copy, msgspec.structs.replace(plan, cuts=cuts))
    return copy


def _counting(run, calls):
    def counted(self, tensor):
        calls.append(1)
        return run(self, tensor)

    return counted


def _payloads(sent):
    """Each frame's features on the wire, from their magic to the end of their header."""
    starts = [at for at in range(len(sent)) if sent.startswith(FEATURES_START, at)]
    return [sent[at : at + 24] for at in starts]
