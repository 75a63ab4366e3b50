"""Child processes of the workbench end with it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, wait_until

pytestmark = pytest.mark.slow

# A command of the workbench's group that starts a server and waits.
SCRIPT = """
import sys, click
from pathlib import Path
from spillover.lab.cli import lab
from spillover.lab.processes import running

@lab.command("hold")
@click.argument("folder", type=Path)
def hold(folder):
    with running(["cloud", "-c", str(folder / "cloud.yaml"), "--ready-file", str(folder / "ready")],
                 folder / "cloud.log") as process:
        process.wait()

lab.get_command = lambda context, name: hold
lab(["hold", sys.argv[1]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_a_command_started_outlives_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """SIGTERM ends a command of the workbench with 143 and its server with it; kill -9 leaves none either."""
    colour_classifier(tmp_path)
    (tmp_path / "cloud.yaml").write_text(
        f'{{"listen": "127.0.0.1:0", "metrics": null, "models": {{"repository": "{tmp_path}"}}}}'
    )
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        wait_until((tmp_path / "ready").exists, process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(number)
        assert process.wait(LIMIT_S) == code
        _, alive = psutil.wait_procs(children, timeout=LIMIT_S)
        assert not alive
    finally:
        process.kill()
        process.communicate()
