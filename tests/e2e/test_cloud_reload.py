"""SIGHUP: the process reads its configuration again and follows it, or says why it does not."""

import signal

import grpc
import msgspec

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import centre_detector, colour_classifier
from tests.support.processes import cloud_process, wait_until
from tests.support.serving import CALL_S, jpeg_of, request_for


def test_model_of_the_command_line_answers_and_outlasts_sighup(tmp_path):
    """`--model` takes the place of `models.load`: it alone is loaded, and answers calls that name none."""
    colour_classifier(tmp_path)
    centre_detector(tmp_path)
    with (
        cloud_process(tmp_path, "--model", "colour") as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        stub = pb_grpc.SpilloverStub(channel)
        for _ in range(2):
            answer = stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S)
            assert answer.model.name == "colour"
            assert len(stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S).models) == 1
            process.send_signal(signal.SIGHUP)
            assert any(" reloaded" in line for line in iter(process.stderr.readline, ""))


def test_sighup_loads_and_unloads_what_the_configuration_now_says(tmp_path):
    """After SIGHUP the models are those of the changed file; a file with a fault changes nothing."""
    colour_classifier(tmp_path)
    centre_detector(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"]}
    with (
        cloud_process(tmp_path, models=models) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        stub = pb_grpc.SpilloverStub(channel)

        def loaded() -> list[str]:
            answer = stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S)
            return [f"{one.model.name}@{one.model.version}" for one in answer.models]

        path = tmp_path / "cloud.yaml"
        good = msgspec.yaml.decode(path.read_bytes())
        path.write_text("models: {lod: [centre]}")
        process.send_signal(signal.SIGHUP)
        lines = iter(process.stderr.readline, "")
        assert "lod" in next(line for line in lines if "not reloaded" in line)
        assert "reload failed" in next(line for line in lines if "by=SIGHUP component=audit" in line)
        assert loaded() == ["colour@1"]

        colour_classifier(tmp_path, version="2")
        path.write_bytes(msgspec.yaml.encode(good | {"models": models | {"load": ["colour", "centre"]}}))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: loaded() == ["centre@1", "colour@2"], process)
        trail = [next(line for line in lines if "by=SIGHUP component=audit" in line) for _ in range(4)]
        for line, what in zip(trail, ("load ", "unload ", "load ", "reload "), strict=True):
            assert f"] {what}" in line

        path.write_bytes(msgspec.yaml.encode(good | {"models": models | {"load": ["centre"]}}))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: loaded() == ["centre@1"], process)


def test_sighup_after_the_repository_has_vanished_changes_nothing_and_names_it(tmp_path):
    """A folder that is not mounted, say, must not cost the server its models."""
    repository = tmp_path / "models"
    repository.mkdir()
    colour_classifier(repository)
    models = {"repository": str(repository)}
    with (
        cloud_process(tmp_path, models=models) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        repository.rename(tmp_path / "away")
        process.send_signal(signal.SIGHUP)
        line = next(line for line in iter(process.stderr.readline, "") if "reloaded" in line)
        assert "not reloaded" in line
        assert str(repository) in line
        answer = pb_grpc.SpilloverStub(channel).Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S)
        assert answer.model.name == "colour"


def test_sighup_names_the_limits_that_need_a_restart(tmp_path):
    """A key that a running server does not follow is never passed over in silence."""
    colour_classifier(tmp_path)
    with cloud_process(tmp_path) as (process, _):
        path = tmp_path / "cloud.yaml"
        changed = {"limits": {"max_message_bytes": 1024, "device_rate_per_s": 100.0}}
        path.write_bytes(msgspec.yaml.encode(msgspec.yaml.decode(path.read_bytes()) | changed))
        process.send_signal(signal.SIGHUP)
        line = next(
            line for line in iter(process.stderr.readline, "") if "reloaded" in line or "restart" in line
        )
        assert "['limits.max_message_bytes']" in line
