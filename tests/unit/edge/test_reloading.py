"""Every key of edge.yaml follows a reload, or the log names it as one that needs a restart."""

import msgspec
import pytest
from msgspec import inspect

from spillover.common.errors import ConfigError
from spillover.edge.config import EdgeConfig
from spillover.edge.config.reloading import (
    FOLLOWED,
    NEEDS_RESTART,
    changed,
    changed_for_a_restart,
    followed,
)


def _keys(kind: type, prefix: str = "") -> list[str]:
    """Every key below a structure, by its dotted name, those of sections that may be null too."""
    found = []
    for field in inspect.type_info(kind).fields:
        key = f"{prefix}{field.encode_name}"
        if section := _section(field.type):
            found += _keys(section.cls, f"{key}.")
        else:
            found.append(key)
    return found


def _section(kind: inspect.Type) -> inspect.StructType | None:
    """The section that a key of this type has; None for a value."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    sections = [one for one in kinds if isinstance(one, inspect.StructType)]
    return sections[0] if len(sections) == 1 else None


def _homes(key: str) -> set[str]:
    """The entries of the table that speak of a key: its own, and those of the sections that it is in."""
    parts = key.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)} & (FOLLOWED | NEEDS_RESTART)


def test_the_table_has_every_key_once_and_no_other() -> None:
    """A key that is new in the configuration fails here until it is said whether it follows a reload."""
    homes = {key: _homes(key) for key in _keys(EdgeConfig)}
    assert {key: found for key, found in homes.items() if len(found) != 1} == {}
    assert set().union(*homes.values()) == FOLLOWED | NEEDS_RESTART
    assert not FOLLOWED & NEEDS_RESTART


def _config(**changes: object) -> EdgeConfig:
    return msgspec.convert({"camera": {"source": "v"}, "model": {"folder": "m"}} | changes, EdgeConfig)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"camera": {"source": "v", "policy": {"threshold": 0.1}, "queue_size": 9}}, ["camera.queue_size"]),
        ({"camera": {"source": "w", "fps": 3}}, ["camera.source"]),
        ({"model": {"folder": "m", "session": {"threads": 3}}}, ["model.session.threads"]),
        ({"spool": {"path": "p"}, "mode": "edge_only", "log": {"level": "error"}}, ["mode", "spool"]),
        ({"policy": {"threshold": 0.1, "budget": {"bytes": 5000}}}, ["policy.budget"]),
        (
            {
                "policy": {"threshold": 0.1},
                "sinks": [{"kind": "jsonl", "path": "/x/b"}],
                "temporal": {},
                "deadline_s": 9,
            },
            [],
        ),
        ({"redaction": {"classes": [1]}}, []),
    ],
)
def test_what_needs_a_restart_is_named_by_its_key_and_stays(
    change: dict[str, object], named: list[str]
) -> None:
    """Single keys, not sections; in force is what was, and of the others what is wanted."""
    running, wanted = _config(), _config(**change)
    assert changed_for_a_restart(running, wanted) == named
    merged = followed(running, wanted)
    assert changed_for_a_restart(running, merged) == []
    assert changed_for_a_restart(merged, wanted) == named
    assert merged.policy.threshold == wanted.policy.threshold
    assert (merged.sinks, merged.log) == (wanted.sinks, wanted.log)


@pytest.mark.parametrize("uplink", [{"variants": [{"jpeg_quality": 50}]}, {"payload": "video"}])
def test_a_gain_file_that_forms_were_chosen_by_is_named(uplink: dict[str, object]) -> None:
    """The policy follows it; what it says of picture variants and of video is read at the start only."""
    running = _config(uplink=uplink, policy={"gain_file": "a"})
    wanted = _config(uplink=uplink, policy={"gain_file": "b"})
    assert changed_for_a_restart(running, wanted) == [
        "policy.gain_file (what it says of uplink.variants and uplink.video)"
    ]


def test_a_file_that_does_not_fit_what_stays_is_refused() -> None:
    """The spool stays where it is, so a sink cannot have its path before a restart."""
    running = _config(spool={"path": "/x/a"})
    wanted = _config(sinks=[{"kind": "jsonl", "path": "/x/a"}])
    with pytest.raises(ConfigError, match=r"must not write to one path .beside the keys that need a restart"):
        followed(running, wanted)


def test_the_keys_of_each_camera_are_followed_as_those_of_one() -> None:
    """They are named by the camera; another set of cameras needs a restart, and none of it is followed."""
    cameras = [{"source": "a", "camera_id": "door"}, {"source": "b", "camera_id": "gate"}]
    running = _config(camera=None, cameras=cameras)
    faster = _config(camera=None, cameras=[cameras[0] | {"fps": 9}, cameras[1] | {"source": "c"}])
    assert changed(running, faster) == ["cameras[door].fps", "cameras[gate].source"]
    assert changed_for_a_restart(running, faster) == ["cameras[gate].source"]
    merged = followed(running, faster)
    assert [(one.source, one.fps) for one in merged.cameras] == [("a", 9), ("b", None)]
    fewer = _config(camera=None, cameras=[cameras[0] | {"fps": 9}])
    assert changed_for_a_restart(running, fewer) == ["cameras"]
    assert followed(running, fewer).cameras == running.cameras
    assert changed_for_a_restart(running, _config()) == ["camera", "cameras"]
    assert followed(running, _config()) == running
