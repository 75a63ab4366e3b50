"""Points against polygons and lines, beside other ways to compute the same."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.config import parse_config
from spillover.common.errors import ConfigError
from spillover.edge.config import EventsConfig
from spillover.edge.events.geometry import anchors, crossings, in_polygon

UNIT = st.integers(0, 20).map(lambda number: number / 20)
POINT = st.tuples(UNIT, UNIT)


def _polygon_text(points):
    return f"zones: [{{name: z, polygon: {[list(point) for point in points]}}}]"


@given(st.lists(POINT, min_size=3, max_size=7), st.lists(POINT, min_size=1, max_size=8))
def test_inside_and_distance_are_opencvs(corners, points):
    """For every polygon that the configuration takes, on its border as well."""
    try:
        polygon = parse_config(_polygon_text(corners), EventsConfig, "f").zones[0].polygon
    except ConfigError:
        return
    inside, distance = in_polygon(np.array(points), np.array(polygon))
    contour = np.array(polygon, np.float32) * 20
    for point, is_inside, how_far in zip(points, inside, distance, strict=True):
        told = cv2.pointPolygonTest(contour, (point[0] * 20, point[1] * 20), measureDist=True)
        assert is_inside == (told >= 0)
        assert how_far * 20 == pytest.approx(abs(told), abs=1e-4)


@given(st.lists(POINT, min_size=2, max_size=12), POINT, POINT)
def test_the_way_back_crosses_as_often_the_other_way(path, start, end):
    """Whatever line and way: there and back is nothing; a line the other way round turns signs."""
    if start == end:
        return
    line = np.array(start), np.array(end)
    before, now = np.array(path[:-1]), np.array(path[1:])
    there = crossings(before, now, *line)
    assert crossings(now, before, *line).tolist() == (-there).tolist()
    if not _touches(np.array(path), *line):
        assert crossings(before, now, line[1], line[0]).tolist() == (-there).tolist()


def _touches(points, start, end):
    along = end - start
    return (np.abs(along[0] * (points - start)[:, 1] - along[1] * (points - start)[:, 0]) < 1e-9).any()


@given(st.lists(POINT, min_size=2, max_size=20))
def test_a_closed_way_crosses_a_whole_line_as_often_in_as_out(path):
    """Points on the line itself included: they belong to one side."""
    closed = np.array([*path, path[0]])
    line = np.array([-1.0, 0.5]), np.array([2.0, 0.5])
    assert crossings(closed[:-1], closed[1:], *line).sum() == 0


def test_in_is_to_the_right_hand():
    """From left to right through the picture it is down; from top to bottom it is to the left."""
    up, down = np.array([[0.5, 0.2]]), np.array([[0.5, 0.8]])
    assert crossings(up, down, np.array([0.0, 0.5]), np.array([1.0, 0.5])).tolist() == [1]
    left, right = np.array([[0.2, 0.5]]), np.array([[0.8, 0.5]])
    assert crossings(right, left, np.array([0.5, 0.0]), np.array([0.5, 1.0])).tolist() == [1]


def test_the_anchor_is_where_the_box_stands_and_stays_in_the_frame():
    """The middle of the lower edge, in shares; a box beyond the border stands on it."""
    boxes = np.array([[10, 10, 30, 50], [190, 60, 230, 120]], np.float32)
    assert anchors(boxes, 200, 100).tolist() == [[0.1, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([(0, 0), (1, 1)], "a list with at least 3 items"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "must not cross itself"),
        ([(0, 0), (0.5, 0.5), (1, 0), (1, 1), (0.5, 0.5), (0, 1)], "each corner once"),
        ([(0, 0), (1, 0), (0.5, 0)], "must not turn back on itself"),
        ([(0, 0), (1, 0), (1, 1), (0.5, 0)], "must not cross itself"),
        ([(0, 0), (1, 0), (1, 1.5)], "from 0 to 1"),
        ([(-0.1, 0), (1, 0), (1, 1)], "from 0 to 1"),
    ],
)
def test_a_polygon_without_one_inside_is_refused(points, why):
    """With key and cause."""
    with pytest.raises(ConfigError, match=rf"zones\[0\]\.polygon.*{why}"):
        parse_config(_polygon_text(points), EventsConfig, "edge.yaml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "zones: [{name: a, polygon: [[0,0],[1,0],[1,1]]}, {name: a, polygon: [[0,0],[1,0],[1,1]]}]",
            r"zones\[1\]\.name: 'a' is the name of another",
        ),
        ("lines: [{name: a, points: [[0,0],[0,0]]}]", r"lines\[0\]\.points: must be two different points"),
        ("lines: [{name: a, points: [[0,0],[1,0]], direction: up}]", "both, in or out, not 'up'"),
        ("lines: [{name: a/b, points: [[0,0],[1,0]]}]", r"lines\[0\]\.name"),
        ("zones: [{name: a, polygons: [[0,0],[1,0],[1,1]]}]", r"did you mean zones\[0\]\.polygon"),
    ],
)
def test_other_mistakes_are_named(text, why):
    """Names that come twice, lines without a length, words that are no direction, keys that are none."""
    with pytest.raises(ConfigError, match=why):
        parse_config(text, EventsConfig, "edge.yaml")
