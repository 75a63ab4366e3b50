"""The form that is chosen at run time beside the best fixed one, on links and devices of many kinds."""

from collections import Counter

import numpy as np
import pytest

from spillover.common.features.quantizer import Quantizer
from spillover.common.model.split import Cut, Seam
from spillover.edge.config import PayloadKind, PictureVariant
from spillover.edge.link.payload_costs import PayloadCostModel, cut_forms, picture_forms
from spillover.edge.payload.encoder import PICTURE
from spillover.edge.policy.forms import choose_payload

PC = {
    PICTURE: (60_000, 0.006, 0.031),
    "early": (21_000, 0.009, 0.022),
    "middle": (4_200, 0.013, 0.016),
    "late": (1_500, 0.020, 0.009),
    "last": (200, 0.028, 0.002),
}
"""Bytes of each form, seconds to make it, seconds on the server: EfficientNet-Lite2 on a PC."""
SMALL = {
    PICTURE: (60_000, 0.025, 0.031),
    "early": (21_000, 0.060, 0.022),
    "middle": (4_200, 0.100, 0.016),
    "late": (1_500, 0.150, 0.009),
    "last": (200, 0.220, 0.002),
}
"""The same on an edge eight times as slow."""
ROUND_TRIP_S = 0.05
NO_DEADLINE_S = 60.0


class World:
    """A device, a link and a server in made-up time; all three are now and then held up, as real ones are."""

    def __init__(self, forms, megabits, seed):
        self.forms = forms
        self.megabits = megabits
        self.now_s = 0.0
        self.random = np.random.default_rng(seed)
        cuts = [_cut(name, size) for name, (size, _, _) in forms.items() if name != PICTURE]
        pictures = picture_forms(PictureVariant(jpeg_quality=85), ())
        self.book = PayloadCostModel(pictures | cut_forms(cuts), PayloadKind.AUTO, lambda: self.now_s)

    def send(self, name, scale=1.0, *, learn=False):
        """One frame in one form: seconds to its answer."""
        size, make_s, server_s = self.forms[name]
        size = int(size * scale)
        make_s, server_s = make_s * self._mood(), server_s * self._mood()
        network_s = ROUND_TRIP_S + size * 8e-6 / self.megabits + 0.005 * (self._mood() - 1)
        if learn:
            self.book.made(name, size, make_s)
            upload = self.book.departed(name, size, NO_DEADLINE_S)
            self.now_s += make_s + server_s + network_s
            self.book.answered(name, upload, network_s, server_s)
            self.book.landed(upload)
        return make_s + server_s + network_s

    def choose(self):
        """The form that the policy would take now."""
        return choose_payload(self.book.options(), NO_DEADLINE_S).name

    def size_of_frame(self):
        """Frames differ in what they weigh."""
        return float(np.exp(self.random.normal(0, 0.4)))

    def _mood(self):
        held_up = 3.0 if self.random.random() < 0.05 else 1.0
        return held_up * float(np.exp(abs(self.random.normal(0, 0.2))))


def _cut(name, size):
    seam = Seam(tensor="t", shape=(8, 4, 4), quantizer=Quantizer(levels=4, low=0, high=1))
    return Cut(
        name=name,
        seams=(seam,),
        head_sha256="0" * 64,
        tail_sha256="1" * 64,
        feature_bytes=size,
        fidelity=0.99,
    )


@pytest.mark.parametrize("megabits", [1, 5, 20, 100])
@pytest.mark.parametrize("forms", [PC, SMALL], ids=["pc", "small"])
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_within_a_tenth_of_the_best_fixed_form(forms, megabits, seed):
    """By the median of 200 frames, what it tries out included, knowing only what it found out itself."""
    world = World(forms, megabits, seed)
    seconds = {name: [] for name in (*forms, "chosen")}
    for _ in range(200):
        scale = world.size_of_frame()
        for name in forms:
            seconds[name].append(world.send(name, scale))
        seconds["chosen"].append(world.send(world.choose(), scale, learn=True))
        world.now_s += 0.2
    median_s = {name: np.median(values) for name, values in seconds.items()}
    assert median_s["chosen"] <= 1.1 * min(median_s[name] for name in forms)


def _mostly(world, frames):
    chosen = Counter()
    for _ in range(frames):
        name = world.choose()
        world.send(name, world.size_of_frame(), learn=True)
        world.now_s += 0.2
        chosen[name] += 1
    return chosen.most_common(1)[0][0]


def test_a_link_that_gets_better_is_noticed_while_only_features_are_sent():
    """Small payloads tell little of the rate; the choice returns to pictures all the same, and back."""
    world = World(SMALL, 1, seed=0)
    _mostly(world, 50)
    assert _mostly(world, 100) == "middle"
    world.megabits = 100
    _mostly(world, 200)
    assert _mostly(world, 100) == PICTURE
    world.megabits = 1
    _mostly(world, 200)
    assert _mostly(world, 100) == "middle"


def test_small_payloads_do_not_make_a_link_look_slow():
    """200 bytes that take a round trip are no sign of a rate of 30 kbit/s."""
    world = World(PC, 20, seed=1)
    for _ in range(100):
        world.send("last", learn=True)
    assert world.book.view().estimate.rate_bytes_per_s > 5e6 / 8


def test_forms_much_slower_than_the_best_are_not_tried_again():
    """Knowledge is not worth any price: over 1 Mbit/s pictures stay away while the link is known."""
    world = World(PC, 1, seed=2)
    for name in PC:
        world.send(name, learn=True)
    chosen = [world.choose() for _ in range(60) if world.send(world.choose(), learn=True)]
    assert PICTURE not in chosen
    assert len(set(chosen)) > 1
