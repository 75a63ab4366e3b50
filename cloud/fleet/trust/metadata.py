"""TUF metadata as bytes: made, signed, and checked; the one place here that knows python-tuf.

A device believes the root that it got with its enrolment. The root names the key of the targets, which lists
bundles by digest, and the online key, which the server has and which says only what is newest (snapshot and
timestamp). So who breaks into the server can offer an older state for a while, but no bundle of their own.
TUF specification: https://theupdateframework.github.io/specification/latest/
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from spillover.common.bundle.target import Target, target_of
from spillover.common.errors import InvalidInputError

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = Root.type, Targets.type, Snapshot.type, Timestamp.type
ONLINE = "online"
"""The key of both snapshot and timestamp."""
KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {ROOT: (ROOT,), TARGETS: (TARGETS,), ONLINE: (SNAPSHOT, TIMESTAMP)}
)
"""By key, the roles that it signs."""
LIFE: Mapping[str, timedelta] = MappingProxyType(
    {
        ROOT: timedelta(days=5 * 365),
        TARGETS: timedelta(days=2 * 365),
        SNAPSHOT: timedelta(days=30),
        TIMESTAMP: timedelta(days=30),
    }
)
"""How long metadata holds. What has expired stops new installs and never a model that runs."""

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)


def first_root(signers: Mapping[str, CryptoSigner], now: datetime) -> bytes:
    """The root of these keys, by `KEYS`, signed by the root key."""
    root = Root(1, expires=now + LIFE[ROOT], consistent_snapshot=True)
    for key, roles in KEYS.items():
        for role in roles:
            root.add_key(signers[key].public_key, role)
    return signed(root, [signers[ROOT]])


def next_root(
    current: bytes, key: str, fresh: CryptoSigner, root_signers: Iterable[CryptoSigner], now: datetime
) -> bytes:
    """The root with `fresh` in place of one of `KEYS`, signed by the root keys, old and new."""
    root = read(Root, current)
    for role in KEYS[key]:
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(fresh.public_key, role)
    root.version += 1
    root.expires = now + LIFE[ROOT]
    return signed(root, root_signers)


def targets_of(before: bytes | None, targets: Iterable[Target], signer: CryptoSigner, now: datetime) -> bytes:
    """Metadata that lists these bundles and no other; the version follows that of `before`."""
    version = read(Targets, before).version + 1 if before else 1
    listed = {target.sha256: _signed_form(target) for target in targets}
    return signed(Targets(version, expires=now + LIFE[TARGETS], targets=listed), [signer])


def listed(targets: bytes) -> dict[str, Target]:
    """The bundles that targets metadata lists, by digest. Raises InvalidInputError."""
    found = read(Targets, targets).targets.values()
    return {one.path: target_of(one.path, one.length, one.hashes, one.custom) for one in found}


def newest(
    targets: bytes, versions: tuple[int, int], signer: CryptoSigner, now: datetime
) -> tuple[bytes, bytes]:
    """Snapshot and timestamp that say these targets are the newest; `versions` are those to give them."""
    snapshot = Snapshot(
        versions[0],
        expires=now + LIFE[SNAPSHOT],
        meta={f"{TARGETS}.json": MetaFile(read(Targets, targets).version)},
    )
    timestamp = Timestamp(versions[1], expires=now + LIFE[TIMESTAMP], snapshot_meta=MetaFile(versions[0]))
    return signed(snapshot, [signer]), signed(timestamp, [signer])


def verify_root(current: bytes | None, data: bytes) -> int:
    """The version of a root that may follow `current`. Raises InvalidInputError."""
    found = _metadata(Root, data)
    if current is not None:
        before = read(Root, current)
        if found.signed.version != before.version + 1:
            raise InvalidInputError(
                f"root metadata: version {found.signed.version} does not follow {before.version}"
            )
        _verify(before, ROOT, found)
    _verify(found.signed, ROOT, found)
    return found.signed.version


def verify_targets(root: bytes, data: bytes) -> int:
    """The version of targets metadata that the root's targets key has signed. Raises InvalidInputError."""
    found = _metadata(Targets, data)
    _verify(read(Root, root), TARGETS, found)
    if found.signed.delegations is not None:
        raise InvalidInputError("targets metadata: delegates, which no device follows")
    return found.signed.version


def signs_for(root: bytes, key: str, signer: CryptoSigner) -> bool:
    """Whether the root lets this key sign for all roles of one of `KEYS`."""
    roles = read(Root, root).roles
    return all(signer.public_key.keyid in roles[role].keyids for role in KEYS[key])


def version_of(data: bytes) -> int:
    """The version of any metadata. Raises InvalidInputError."""
    return int(_parsed(data).signed.version)


def expires_of(data: bytes) -> datetime:
    """When any metadata expires. Raises InvalidInputError."""
    expires: datetime = _parsed(data).signed.expires
    return expires


def read(kind: type[T], data: bytes) -> T:
    """What metadata of a kind says; its signatures are not looked at. Raises InvalidInputError."""
    return _metadata(kind, data).signed


def signed(content: T, signers: Iterable[CryptoSigner]) -> bytes:
    """Metadata with a signature of each."""
    metadata = Metadata(content)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _signed_form(target: Target) -> TargetFile:
    custom = msgspec.to_builtins(target.note)
    return TargetFile(target.size_bytes, {"sha256": target.sha256}, target.sha256, {"custom": custom})


def _metadata(kind: type[T], data: bytes) -> Metadata[T]:
    found = _parsed(data)
    if not isinstance(found.signed, kind):
        raise InvalidInputError(f"{kind.type} metadata: this is {found.signed.type} metadata")
    return found


def _parsed(data: bytes) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(data)
    except RepositoryError as error:
        raise InvalidInputError(f"metadata: {error}") from error


def _verify(delegator: Root, role: str, found: Metadata[Any]) -> None:
    try:
        delegator.verify_delegate(role, found.signed_bytes, found.signatures)
    except UnsignedMetadataError as error:
        raise InvalidInputError(f"{role} metadata: not signed by the key of the {role} role") from error
