"""Clips: their own clock, and what is wrong with one is said."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from spillover.common.errors import SourceError
from spillover.lab.pairs.video.clip import open_clip
from tests.support.clips import write_avi, write_pictures


def test_a_video_is_played_by_its_own_times(tmp_path: Path) -> None:
    """Twelve frames at 8 a second: their times, their number, their pixels, each time it is read."""
    clip = open_clip(write_avi(tmp_path / "a.avi", 12, fps=8))
    np.testing.assert_allclose(clip.times_s, np.arange(12) / 8)
    assert (clip.fps, clip.name) == (pytest.approx(8.0), "a.avi")
    for _ in range(2):
        assert [image.shape for image in clip.frames()] == [(48, 64, 3)] * 12


def test_a_rate_that_is_said_overrides_the_files(tmp_path: Path) -> None:
    """Filmed at 30 and written at 8."""
    clip = open_clip(write_avi(tmp_path / "a.avi", 4, fps=8), fps=30)
    np.testing.assert_allclose(clip.times_s, np.arange(4) / 30)


def test_a_folder_needs_a_rate(tmp_path: Path) -> None:
    """Pictures have no times; MOTChallenge writes the rate beside them."""
    folder = write_pictures(tmp_path / "seq" / "img1", 3)
    with pytest.raises(SourceError, match="states no rate: say --fps"):
        open_clip(folder)
    np.testing.assert_allclose(open_clip(folder, fps=2).times_s, [0, 0.5, 1])
    (tmp_path / "seq" / "seqinfo.ini").write_text("[Sequence]\nname=seq\nframeRate=4\n")
    np.testing.assert_allclose(open_clip(tmp_path / "seq").times_s, [0, 0.25, 0.5])


def test_pictures_that_differ_have_another_digest(tmp_path: Path) -> None:
    """What is cached belongs to these pixels."""
    clips = [open_clip(write_avi(tmp_path / f"{n}.avi", n, fps=8)) for n in (3, 4)]
    assert clips[0].digest != clips[1].digest


def test_a_clip_that_changes_size_is_refused_at_the_frame(tmp_path: Path) -> None:
    """Boxes of one size cannot be moved to another."""
    folder = write_pictures(tmp_path / "p", 3)
    cv2.imwrite(str(folder / "000002.png"), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(SourceError, match="frame 3 is 40x30, those before are 64x48"):
        list(open_clip(folder, fps=5).frames())


@pytest.mark.parametrize("count", [1])
def test_one_frame_is_no_clip(tmp_path: Path, count: int) -> None:
    """Nothing can be carried from it."""
    with pytest.raises(SourceError, match="holds 1 frame"):
        open_clip(write_avi(tmp_path / "a.avi", count, fps=8))
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(SourceError, match="a single picture"):
        open_clip(picture)


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    """Missing, empty, text: each is named."""
    with pytest.raises(SourceError, match="no such file"):
        open_clip(tmp_path / "nowhere.avi")
    for content in (b"", b"not a film" * 100):
        path = tmp_path / "x.avi"
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"x\.avi: is no video"):
            open_clip(path)


def test_a_clip_cut_short_is_refused(tmp_path: Path) -> None:
    """The header promises 40 frames, the file holds half."""
    path = write_avi(tmp_path / "a.avi", 40, fps=8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"a\.avi: (\d+ of 40 frames|is no video|holds no frame)"):
        open_clip(path)


def test_a_damaged_picture_in_a_folder_is_named(tmp_path: Path) -> None:
    """Left out, it would shift every label behind it."""
    folder = write_pictures(tmp_path / "p", 3)
    (folder / "000001.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"000001\.png"):
        list(open_clip(folder, fps=5).frames())
