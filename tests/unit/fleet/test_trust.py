"""Signed models: what a device accepts, and each attack that it withstands."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spillover.cloud.fleet.trust import metadata
from spillover.cloud.fleet.trust.metadata import KEYS, LIFE, ONLINE, ROOT, TARGETS, TIMESTAMP
from spillover.cloud.fleet.trust.signing import SigningFolder, read_signer
from spillover.common.bundle.format import Patch, SignedNote
from spillover.common.bundle.target import Target
from spillover.common.errors import ConfigError, InvalidInputError, NotFoundError, UnavailableError
from spillover.edge.models.update.trust import Trust, UntrustedError, Versions, trusted_time
from tests.support.fleet import NOW, PASSPHRASE, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet whose first model is published."""
    return Fleet(tmp_path)


def test_a_device_finds_what_the_operator_signed(fleet: Fleet) -> None:
    """Digest, size and description; and what is not signed is no bundle."""
    target = fleet.publish("1")
    trust = fleet.trust()
    found = trust.bundle(target.sha256)
    assert (found.sha256, found.size_bytes, found.note) == (target.sha256, target.size_bytes, target.note)
    assert trust.versions == Versions(1, 1, 1)
    with pytest.raises(UntrustedError, match="not among those that are signed"):
        trust.bundle("0" * 64)
    newer = fleet.publish("2", target)
    trust = fleet.trust()
    assert trust.bundle(newer.sha256).note.bundle.version == "2"
    assert trust.versions == Versions(1, 2, 2)


def test_a_bundle_that_was_taken_back_is_none_any_more(fleet: Fleet) -> None:
    """A new list without it, and no device installs it again; its file goes."""
    bad = fleet.publish("1")
    good = fleet.publish("2")
    with pytest.raises(UntrustedError, match="not among those"):
        fleet.trust().bundle(bad.sha256)
    assert fleet.store.collect() == [bad.sha256]
    assert fleet.store.path_of(good.sha256).stat().st_size == good.size_bytes
    with pytest.raises(NotFoundError):
        fleet.store.path_of(bad.sha256)


def test_rollback_is_refused(fleet: Fleet) -> None:
    """Old metadata, each in its time signed: not accepted by who has seen newer."""
    first = fleet.publish("1")
    old = {path.name: path.read_bytes() for path in (fleet.folder / "server" / "metadata").iterdir()}
    fleet.publish("2")
    versions = fleet.trust().versions
    with pytest.raises(UntrustedError):
        fleet.trust(old.get)
    # A power cut took what tuf keeps; the device's own note is left.
    fleet.forget()
    with pytest.raises(UntrustedError, match="older than what was accepted"):
        Trust(fleet.device, old.get, fleet.now.timestamp(), versions)
    assert fleet.trust(old.get).bundle(first.sha256)  # without that note it could not know


def test_a_freeze_is_seen_by_whoever_knows_the_time(fleet: Fleet) -> None:
    """A server that repeats one old state: refused once that has expired, by the server's own clock too."""
    fleet.publish("1")
    later = NOW + LIFE[TIMESTAMP] + timedelta(days=1)
    with pytest.raises(UntrustedError, match="expired"):
        fleet.trust(at=later)
    fleet.now = later
    assert fleet.store.renew_if_due()
    assert not fleet.store.renew_if_due()
    assert fleet.trust().versions == Versions(1, 1, 2)
    clock = datetime(2000, 1, 1, tzinfo=UTC)
    assert fleet.trust(at=clock).versions == Versions(1, 1, 2)  # a slow clock cannot see a freeze


@pytest.mark.parametrize(
    ("synchronised", "found"), [(True, 400.0), (False, 300.0)], ids=["synchronised", "not synchronised"]
)
def test_the_time_is_the_newest_that_can_be_vouched_for(synchronised: bool, found: float) -> None:
    """The clock's alone where something keeps it right."""
    assert trusted_time(200.0, 300.0, 400.0, is_synchronised=synchronised) == found


def test_mix_and_match_is_refused(fleet: Fleet) -> None:
    """Old targets under a new snapshot, a snapshot under another name, targets of another fleet."""
    fleet.publish("1")
    fleet.publish("2")
    fetch = fleet.fetch
    swapped = {"2.targets.json": "1.targets.json", "2.snapshot.json": "1.snapshot.json"}
    for name, other in swapped.items():
        fleet.forget()
        with pytest.raises(UntrustedError):
            fleet.trust(lambda asked, name=name, other=other: fetch(other if asked == name else asked))
    (fleet.folder / "stranger").mkdir()
    stranger = Fleet(fleet.folder / "stranger")
    stranger.publish("1")
    stranger.publish("2")
    for name in ("2.targets.json", "2.snapshot.json", "timestamp.json"):
        fleet.forget()
        with pytest.raises(UntrustedError):
            fleet.trust(lambda asked, name=name: stranger.fetch(asked) if asked == name else fetch(asked))


def test_the_servers_key_cannot_add_a_bundle(fleet: Fleet) -> None:
    """Whoever has broken into the server can sign what is newest, and nothing that is to run."""
    target = fleet.publish("1")
    online = read_signer(fleet.folder / "server" / "online.pem")
    forged = metadata.targets_of(fleet.signing.targets, [target], online, NOW)
    with pytest.raises(InvalidInputError, match="not signed by the key of the targets role"):
        fleet.store.accept_targets(forged)
    snapshot, timestamp = metadata.newest(forged, (2, 2), online, NOW)
    lie = {"2.targets.json": forged, "2.snapshot.json": snapshot, "timestamp.json": timestamp}
    with pytest.raises(UntrustedError, match="targets"):
        fleet.trust(lambda name: lie.get(name, fleet.fetch(name)))


@pytest.mark.parametrize("key", KEYS)
def test_a_key_can_be_replaced(fleet: Fleet, key: str) -> None:
    """Devices follow the roots from the one that they have; what the old key signs counts no more."""
    target = fleet.publish("1")
    assert fleet.trust().versions.root == 1
    root = fleet.signing.rotate(key, NOW)
    old = fleet.folder / "keys" / f"{key}.pem.set-aside"
    assert old.exists()
    if key == ONLINE:
        with pytest.raises(InvalidInputError, match="copy the new online"):
            fleet.store.accept_root(root)
        fleet.copy_online_key()
    fleet.store.accept_root(root)
    if key == TARGETS:
        assert fleet.signing.targets is not None
        fleet.store.accept_targets(fleet.signing.targets)
        stolen = metadata.targets_of(fleet.signing.targets, [], read_signer(old, lambda: PASSPHRASE), NOW)
        with pytest.raises(InvalidInputError, match="not signed"):
            fleet.store.accept_targets(stolen)
    trust = fleet.trust()
    assert trust.versions.root == 2
    assert trust.bundle(target.sha256)
    fleet.publish("2", target)
    assert fleet.trust().bundle(target.sha256)
    # A new device has the first root alone.
    fleet.forget()
    assert fleet.trust().versions.root == 2
    if key == ROOT:
        stolen = metadata.next_root(
            root, TARGETS, read_signer(old, lambda: PASSPHRASE), [read_signer(old, lambda: PASSPHRASE)], NOW
        )
        with pytest.raises(InvalidInputError, match="not signed"):
            fleet.store.accept_root(stolen)


def test_a_root_that_does_not_follow_is_refused(fleet: Fleet) -> None:
    """By the server and by devices: of another fleet, or with a version left out."""
    fleet.publish("1")
    (fleet.folder / "other").mkdir()
    other = Fleet(fleet.folder / "other")
    foreign = other.signing.rotate(TARGETS, NOW)
    with pytest.raises(InvalidInputError, match="not signed"):
        fleet.store.accept_root(foreign)
    with pytest.raises(UntrustedError):
        fleet.trust(lambda name: foreign if name == "2.root.json" else fleet.fetch(name))
    fleet.signing.rotate(TARGETS, NOW)
    third = fleet.signing.rotate(TARGETS, NOW)
    with pytest.raises(InvalidInputError, match="version 3 does not follow 1"):
        fleet.store.accept_root(third)


def test_two_operators_sign_one_after_the_other(fleet: Fleet) -> None:
    """Who is behind is told, takes over what the server has, and goes on from there."""
    fleet.publish("1")
    behind = fleet.signing.targets
    second = fleet.publish("2")
    assert behind is not None
    with pytest.raises(InvalidInputError, match="is not newer than 2"):
        fleet.store.accept_targets(behind)
    (fleet.folder / "keys" / "metadata" / "targets.json").write_bytes(behind)
    assert second.sha256 not in fleet.signing.bundles()
    fleet.signing.take([fleet.store.metadata("1.root.json")], fleet.store.metadata("2.targets.json"))
    assert second.sha256 in fleet.signing.bundles()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'{"signed": {"_type": "root"}, "signatures": []}', b"[" * 5000]
)
def test_rubbish_is_no_metadata(fleet: Fleet, data: bytes) -> None:
    """For operator, server and device."""
    fleet.publish("1")
    for accept in (fleet.store.accept_root, fleet.store.accept_targets):
        with pytest.raises(InvalidInputError, match="metadata"):
            accept(data)
    with pytest.raises(UntrustedError):
        fleet.trust(lambda name: data if name == "timestamp.json" else fleet.fetch(name))


def test_files_must_be_there_before_they_are_offered(fleet: Fleet) -> None:
    """A list that names what was not uploaded, or a patch, or with another size, changes nothing."""
    target = fleet.publish("1")
    patched = Target(
        target.sha256, target.size_bytes, SignedNote(target.note.bundle, {"1" * 64: Patch("2" * 64, 3)})
    )
    for wrong in (patched, Target("3" * 64, 5, target.note), Target(target.sha256, 1, target.note)):
        with pytest.raises(InvalidInputError, match="its file is missing"):
            fleet.store.accept_targets(fleet.signing.sign([wrong], NOW))
    assert fleet.trust().bundle(target.sha256)
    upload = fleet.store.incoming("upload")
    upload.write_bytes(b"another")
    with pytest.raises(InvalidInputError, match="another digest"):
        fleet.store.keep(upload, target.sha256)
    assert not upload.exists()


def test_what_cannot_be_fetched_now_is_no_fault_of_the_metadata(fleet: Fleet) -> None:
    """The error of the link comes out as it is, so that it is tried again."""
    fleet.publish("1")

    def down(_: str) -> bytes:
        raise UnavailableError("no link")

    with pytest.raises(UnavailableError, match="no link"):
        fleet.trust(down)


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A short or wrong passphrase, keys that are there, a folder without keys, a device without root."""
    with pytest.raises(ConfigError, match="fewer than 16"):
        SigningFolder.create(tmp_path / "keys", b"short", NOW)
    SigningFolder.create(tmp_path / "keys", PASSPHRASE, NOW)
    with pytest.raises(ConfigError, match="not overwritten"):
        SigningFolder.create(tmp_path / "keys", PASSPHRASE, NOW)
    with pytest.raises(ConfigError, match=r"targets\.pem: cannot be read: a wrong passphrase"):
        SigningFolder(tmp_path / "keys", lambda: b"wrong").sign([], NOW)
    with pytest.raises(ConfigError, match="no keys in"):
        SigningFolder(tmp_path / "none")
    (tmp_path / "device").mkdir()
    with pytest.raises(ConfigError, match=r"root\.json: .*spillover edge enrol"):
        Trust(tmp_path / "device", lambda _: None, 0.0)


def test_secrets_are_for_their_owner_alone(fleet: Fleet) -> None:
    """Key files are private; root and targets key are encrypted."""
    for key in KEYS:
        path = fleet.folder / "keys" / f"{key}.pem"
        assert path.stat().st_mode & 0o777 == 0o600
        assert (b"ENCRYPTED" in path.read_bytes()) == (key != ONLINE)
