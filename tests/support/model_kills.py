"""Kills a device at random moments of fetching, patching, unpacking, swapping and probation.

`python -m tests.support.model_kills --kills 1200` prints what was found; each start after a kill must find a
model that runs, whole, and go on with what it was fetching.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from spillover.common.bundle.format import labels_digest
from spillover.common.bundle.target import Target
from spillover.common.errors import ModelError
from spillover.common.model.ensemble.opening import load_model
from spillover.edge.models.store import FACTORY, ModelStore
from spillover.edge.models.update.installing import DeviceFacts, bring
from tests.support.fleet import Fleet

_BUNDLES = 6
_CHUNK_BYTES = 700
_LONGEST_S = 0.15
FACTS = DeviceFacts("0.1.0", "classification", labels_digest(()), ("onnxruntime",))


class _Device:
    """What is killed. `log` gets a line for each chunk and for each step, written before it is taken."""

    def __init__(self, fleet: Fleet, targets: list[Target], log: int) -> None:
        self._fleet = fleet
        self._targets = targets
        self._log = log
        self._store = ModelStore(fleet.device / "models")

    def run(self, seed: int) -> None:
        """Begin as a daemon does, then install one bundle after the other, for ever."""
        draw = random.Random(seed)
        self._say("start", self._store.starting()[:12])
        self._check()
        while True:
            self._round(draw)

    def _round(self, draw: random.Random) -> None:
        store = self._store
        state = store.state
        choice = [one for one in self._targets if one.sha256 not in {state.current, *state.refused}]
        if len(choice) < 2:
            store._step(refused={})
            return
        target = next((one for one in choice if self._is_begun(one)), draw.choice(choice))
        has = (state.current,) if state.current else ()
        self._say("collect")
        store.collect(target.sha256)
        self._say("fetch", target.sha256)
        wanted = self._fleet.trust().bundle(target.sha256)
        bring(store.folder, wanted, replace(FACTS, has=has), self._fetch)
        self._say("installed", target.sha256)
        store.offer(target.sha256)
        if draw.random() < 0.2:
            self._say("refuse")
            store.refuse(target.sha256, "worse")
            return
        self._say("promote")
        store.promote()
        self._say("swap", store.starting()[:12])
        self._check()
        if draw.random() < 0.3:
            self._say("back")
            store.roll_back("slow")
        else:
            self._say("confirm")
            store.confirm()

    def _fetch(self, sha256: str, offset: int) -> Iterator[bytes]:
        for chunk in self._fleet.content(sha256, offset, _CHUNK_BYTES):
            self._say("chunk", f"{sha256} {offset}")
            offset += len(chunk)
            yield chunk

    def _is_begun(self, target: Target) -> bool:
        """Whether something of it has come that is not in use."""
        folder, state = self._store.folder, self._store.state
        if any((folder / "incoming" / f"{one}.part").exists() for one in target.files):
            return True
        return self._store.has(target.sha256) and target.sha256 != state.previous

    def _check(self) -> None:
        """The current model is whole, runs, and was not refused."""
        current = self._store.state.current
        if current == FACTORY:
            return
        if current in self._store.state.refused:
            raise ModelError("a refused model is the current one")
        load_model(self._store.model_folder(current))

    def _say(self, step: str, what: str = "") -> None:
        os.write(self._log, f"{step} {what}\n".encode())


def kill_often(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Run and kill a device so often; what was found."""
    fleet = Fleet(folder)
    targets: list[Target] = []
    for number in range(_BUNDLES):
        before = targets[-1] if targets else None
        targets.append(fleet.publish(str(number + 1), *targets, patch_from=before))
    log_path = folder / "log"
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    draw = random.Random(seed)
    faults: list[str] = []
    for number in range(kills):
        pid = os.fork()
        if pid == 0:
            try:
                _Device(fleet, targets, log).run(seed + number)
            except BaseException:  # noqa: BLE001 - the child ends here whatever it is
                (folder / f"fault-{number}").write_text(traceback.format_exc(), encoding="utf-8")
            os._exit(1)
        time.sleep(draw.random() * _LONGEST_S)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            faults.append((folder / f"fault-{number}").read_text(encoding="utf-8"))
    os.close(log)
    lines = [line.split() for line in log_path.read_text(encoding="ascii").splitlines()]
    steps = [line[0] for line in lines]
    return {
        "kills": kills,
        "killed after": dict(Counter(before for before, now in pairwise(steps) if now == "start")),
        "swaps": steps.count("swap"),
        "most bytes fetched twice": fetched_twice(lines),
        "faults": faults[:3],
    }


def fetched_twice(lines: list[list[str]]) -> int:
    """The most bytes of one target that a start fetched again although they had come before."""
    most, newest = 0, dict[str, int]()
    for line in lines:
        if line[0] == "installed":
            newest.clear()
        elif line[0] == "chunk":
            sha256, offset = line[1], int(line[2])
            if sha256 in newest:
                most = max(most, newest[sha256] - offset)
            newest[sha256] = offset + _CHUNK_BYTES
    return most


def main() -> int:
    """Print what was found as JSON; 1 where a start found something else than a model that runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_often(Path(folder), asked.kills, asked.seed)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return int(bool(found["faults"]) or int(str(found["most bytes fetched twice"])) > _CHUNK_BYTES)


if __name__ == "__main__":
    sys.exit(main())
