"""Profiles of devices: measured without the workbench's libraries, written as JSON, merged into the plan."""

import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from spillover.common.errors import ModelError
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import DeviceProfile, open_split_plan
from spillover.lab.models.profile.cli import profile
from spillover.lab.models.profile.timing import interleaved_seconds, merged
from tests.support.splitting import residual_classifier, split_classifier


@pytest.fixture
def folder(tmp_path):
    """A split model."""
    folder = residual_classifier(tmp_path)
    split_classifier(folder)
    return folder


def test_a_profile_travels_as_json_and_is_merged(folder, tmp_path):
    """Measured there, merged here: the plan then has both devices, and the cuts are as they were."""
    before = open_split_plan(open_model_folder(folder))
    path = tmp_path / "pi.json"
    run = CliRunner().invoke(profile, [str(folder), "--device", "pi", "--json", str(path), "--rounds", "1"])
    assert run.exit_code == 0, run.output
    assert open_split_plan(open_model_folder(folder)) == before
    assert CliRunner().invoke(profile, [str(folder), "--merge", str(path)]).exit_code == 0
    after = open_split_plan(open_model_folder(folder))
    assert after.cuts == before.cuts
    assert [one.device for one in after.profiles] == [before.profiles[0].device, "pi"]


def test_a_device_that_is_measured_again_is_replaced(folder):
    """One profile a device."""
    plan = open_split_plan(open_model_folder(folder))
    again = DeviceProfile(
        device=plan.profiles[0].device,
        whole_s=9,
        head_s={cut.name: 1 for cut in plan.cuts},
        tail_s={cut.name: 1 for cut in plan.cuts},
    )
    assert merged(plan, [again]) == (again,)


def test_a_profile_of_other_cuts_is_refused(folder):
    """It was measured on another split of the model."""
    plan = open_split_plan(open_model_folder(folder))
    other = DeviceProfile(device="pi", whole_s=1, head_s={"x": 1}, tail_s={"x": 1})
    with pytest.raises(ModelError, match="other cuts"):
        merged(plan, [other])


def test_a_profile_of_other_heads_is_refused(folder):
    """The same names, but the network was split anew since, say with INT8 heads."""
    plan = open_split_plan(open_model_folder(folder))
    stale = {cut.name: "0" * 64 for cut in plan.cuts}
    with pytest.raises(ModelError, match="other cuts"):
        merged(plan, [msgspec.structs.replace(plan.profiles[0], head_sha256=stale)])


def test_a_model_that_was_not_split_says_how(tmp_path):
    """With the command that splits it."""
    with pytest.raises(ModelError, match="no split plan; `spillover lab split`"):
        open_split_plan(open_model_folder(residual_classifier(tmp_path)))


def test_every_run_is_made_once_a_round():
    """In turns of alternating order, after one round to warm up."""
    calls = []
    times = interleaved_seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_profiling_imports_nothing_that_a_pi_has_not():
    """`lab profile` runs with what the edge installs: no onnx, rich or matplotlib."""
    heavy = "{'onnx', 'rich', 'matplotlib', 'sympy', 'psutil', 'grpc', 'scipy', 'jinja2'}"
    modules = "spillover.lab.models.profile.cli, spillover.lab.models.profile.timing"
    code = f"import sys, {modules}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
