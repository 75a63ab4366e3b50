"""`lab fit --variants --clip`: what video keeps of the cloud's answers, by its rate factor."""

from pathlib import Path

from click.testing import CliRunner

from spillover.edge.config import UplinkConfig, VideoConfig
from spillover.lab.pairs.fit.cli import fit
from spillover.lab.pairs.fit.variants import EVERY, measure_video
from spillover.lab.terminal import Silent
from tests.support.clips import write_avi
from tests.support.models import centre_detector


def test_each_rate_factor_is_coded_and_answered(tmp_path: Path) -> None:
    """More of it takes fewer bytes; the fidelity beside the rows is that of the configured one."""
    cloud = centre_detector(tmp_path / "models", "cloud")
    clip = write_avi(tmp_path / "clip.avi", 3 * EVERY, fps=10)
    config = UplinkConfig(video=VideoConfig(longest_side=64, crf=40))
    rows, kept = measure_video(cloud, clip, config, Silent(), threads=1)
    assert [row.name for row in rows] == [f"video, crf {crf}" for crf in (40, 23, 28, 33)]
    sizes = [row.mean_bytes for row in (*rows[1:], rows[0])]
    assert sizes == sorted(sizes, reverse=True)
    assert kept == rows[0].fidelity
    assert all(0.5 < row.fidelity <= 1 for row in rows)


def test_a_clip_without_a_configuration_is_refused(tmp_path: Path) -> None:
    """Before a model is run: nobody has said how video is coded."""
    cloud = centre_detector(tmp_path / "models", "cloud")
    words = ["--edge", cloud, "--cloud", cloud, "--data", tmp_path, "--out", tmp_path / "o.json"]
    done = CliRunner().invoke(
        fit, [*map(str, words), "--clip", str(write_avi(tmp_path / "c.avi", 3, fps=10))]
    )
    assert done.exit_code == 2
    assert "--clip needs --variants" in " ".join(done.output.split())
