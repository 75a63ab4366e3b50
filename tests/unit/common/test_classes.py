"""Classes that a configuration names by label or number are classes of the model."""

import re

import pytest

from spillover.common.errors import ConfigError
from spillover.common.model.classes import class_ids

LABELS = ("person", "bicycle", "car")
MANY = tuple(f"class-{number}" for number in range(80))


def test_labels_and_numbers_name_classes() -> None:
    """Mixed, in the order given."""
    assert class_ids(("car", 0), LABELS, 3, "k") == [2, 0]
    assert class_ids((1000,), (), None, "k") == [1000]  # nothing tells how many there are


@pytest.mark.parametrize(
    ("name", "labels", "why"),
    [
        ("persn", LABELS, "no class 'persn' (did you mean person?)"),
        ("xyz", LABELS, "no class 'xyz' (it has person, bicycle, car)"),
        ("xyz", MANY, "class-9, ..."),
        ("person", (), "no class 'person' (it has numbers, no names)"),
        (3, LABELS, "no class 3 (it has 0 to 2)"),
        (-1, (), "no class -1 (it has numbers from 0)"),
    ],
)
def test_a_class_that_the_model_does_not_have_is_refused(
    name: str | int, labels: tuple[str, ...], why: str
) -> None:
    """With the key, and what there is instead."""
    with pytest.raises(ConfigError, match=f"^events.classes: the model has .*{re.escape(why)}"):
        class_ids((name,), labels, None, "events.classes")
