"""Real networks on real pictures: the server answers exactly what the same model answers in this process."""

import shutil

import numpy as np
import pytest

from spillover.common.model.manifest import (
    MODEL_FILE,
    Colour,
    Input,
    Manifest,
    Output,
    Resize,
    file_sha256,
    write_manifest,
)
from spillover.common.model.session import Model
from spillover.common.tasks.detection import DETECTION
from spillover.common.wire.conversion import reply_from_pb
from tests.support.serving import CALL_S, cloud_config, request_for, serving, stub_of

INPUTS = {
    "yolox": Input(height=416, width=416, colour=Colour.BGR, resize=Resize.LETTERBOX),
    "fastestdet": Input(height=352, width=352, colour=Colour.BGR, std=(255.0, 255.0, 255.0)),
}
FILES = {"yolox": "yolox_nano_416.onnx", "fastestdet": "fastestdet_352.onnx"}


@pytest.fixture(scope="module")
def repository(shared_dir, tmp_path_factory):
    """Both real detectors in a repository."""
    root = tmp_path_factory.mktemp("real")
    for name, file in FILES.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        shutil.copy(shared_dir / "models" / file, folder / MODEL_FILE)
        write_manifest(
            folder,
            Manifest(
                name=name,
                version="1",
                task=DETECTION.name,
                sha256=file_sha256(folder / MODEL_FILE),
                input=INPUTS[name],
                output=Output(decoder=name),
            ),
        )
    return root


@pytest.mark.parametrize("name", FILES)
def test_a_real_detector_answers_as_in_process(repository, shared_dir, name):
    """Boxes over the wire equal those of the model in this process, and there are some."""
    local = Model.load(repository / name / "1")
    pictures = [path.read_bytes() for path in sorted((shared_dir / "data/coco-dev/images").glob("*.jpg"))[:8]]
    found = 0
    with serving(cloud_config(repository)) as server, stub_of(server) as stub:
        for jpeg in pictures:
            reply = reply_from_pb(stub.Infer(request_for(jpeg, name), timeout=CALL_S))
            expected = local.predict_jpeg(jpeg, 10**9)
            np.testing.assert_allclose(reply.prediction.xyxy, expected.xyxy, atol=0.5)
            np.testing.assert_array_equal(reply.prediction.class_id, expected.class_id)
            found += len(expected)
    assert found > len(pictures)
