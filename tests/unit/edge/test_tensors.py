"""Tensors prepared at the edge: what is sent, what waits in its place, and what is refused at the start."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError, InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage, decode_jpeg, encode_jpeg
from spillover.common.model.manifest import (
    Colour,
    Element,
    Input,
    Manifest,
    Output,
    Resize,
    write_manifest,
)
from spillover.common.model.preprocess import preprocess
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections
from spillover.edge.config import UplinkConfig
from spillover.edge.payload.encoder import PICTURE, TENSOR, PayloadEncoder, as_it_waits
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.payload.types import EncodedFeatures, EncodedTensor
from tests.support.edge_values import frame

PLAIN = Input(height=8, width=8)
NORMALISED = Input(height=8, width=8, mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0), colour=Colour.BGR)


@pytest.fixture
def make(tmp_path):
    """A payload encoder for a network of input `spec`, with keys of `uplink.oip` and `also` beside them."""

    def build(spec=NORMALISED, task=CLASSIFICATION, also=None, **keys):
        output = Output(decoder="softmax" if task is CLASSIFICATION else "yolov8")
        write_manifest(
            tmp_path,
            Manifest(name="big", version="3", task=task.name, input=spec, output=output, sha256="0" * 64),
        )
        oip = {"manifest": str(tmp_path / "model.yaml"), "input": "x", "outputs": ["y"]} | keys
        config = msgspec.convert({"protocol": "oip", "oip": oip} | (also or {}), UplinkConfig)
        encoder = TensorEncoder(config, config.oip, task)
        return encoder, PayloadEncoder(config, "boot", {TENSOR: encoder})

    return build


def test_a_frame_becomes_the_input_of_the_clouds_network(make):
    """The tensor is what the server's own preprocessing would have made, with the batch axis before it."""
    _, payload_encoder = make()
    one = frame()
    expected, transform = preprocess(one.image, NORMALISED)
    encoded_frame = payload_encoder.pack(one)
    assert isinstance(encoded_frame.payload, EncodedTensor)
    np.testing.assert_array_equal(encoded_frame.payload.tensor, expected[None])
    assert (encoded_frame.option, encoded_frame.payload.transform) == (TENSOR, transform)
    assert len(encoded_frame.payload.data) == expected.nbytes


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", np.float16), ("UINT8", np.uint8)])
def test_smaller_datatypes(make, datatype, dtype):
    """A network that takes half floats or plain pixels is sent those: a half and a quarter of the bytes."""
    encoder, _ = make(PLAIN, datatype=datatype)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    tensor = encoder.encode(image).tensor
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), image[:, :, ::-1])


def test_a_tensor_waits_as_a_picture(make):
    """On the disk is a JPEG in both cases: a frame that was never sent, and one that was sent in vain."""
    _, payload_encoder = make()
    waiting = payload_encoder.pack_to_wait(frame())
    rescued = as_it_waits(payload_encoder.pack(frame()))
    for encoded_frame in (waiting, rescued):
        assert isinstance(encoded_frame.payload, EncodedImage)
        assert encoded_frame.option == PICTURE
        assert decode_jpeg(encoded_frame.payload.data, 10_000).shape == (48, 64, 3)


@pytest.mark.parametrize("resize", list(Resize))
def test_a_picture_that_has_waited_leads_back_to_the_frame(make, resize):
    """Made from a shrunken picture, the transform is that of the frame: boxes come out in its pixels."""
    spec = Input(height=16, width=32, resize=resize, crop_fraction=0.8)
    encoder, payload_encoder = make(spec, also={"longest_side": 32})
    one = frame(size=(48, 64))
    direct = payload_encoder.pack(one).payload
    sent = encoder.refit(payload_encoder.pack_to_wait(one))
    assert isinstance(direct, EncodedTensor)
    assert isinstance(sent.payload, EncodedTensor)
    assert sent.option == TENSOR
    found, wanted = sent.payload.transform, direct.transform
    in_input = np.array([[4, 3, 20, 12]], np.float32)
    np.testing.assert_allclose(found.to_frame(in_input), wanted.to_frame(in_input), atol=1.5)
    assert (found.frame_width, found.frame_height) == (64, 48)


def test_a_tensor_is_sent_as_it_is(make):
    """What was packed as a tensor is not made again for a second try."""
    encoder, payload_encoder = make()
    encoded_frame = payload_encoder.pack(frame())
    assert encoder.refit(encoded_frame) is encoded_frame


def test_boxes_of_a_tensor_are_in_frame_pixels_already(make):
    """The decoder has the transform, so nothing is mapped a second time."""
    _, payload_encoder = make()
    boxes = Detections(np.array([[1, 2, 3, 4]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    assert payload_encoder.pack(frame()).in_frame_pixels(boxes) is boxes


def test_what_cannot_become_a_tensor_is_named(make):
    """Features from a time with another configuration, and a damaged picture, are refused for good."""
    encoder, payload_encoder = make()
    waiting = payload_encoder.pack_to_wait(frame())
    features = EncodedFeatures(b"", "0" * 64, FrameTransform(1, 1, 0, 0, 64, 48))
    with pytest.raises(InvalidInputError, match="features"):
        encoder.refit(replace(waiting, payload=features))
    damaged = replace(encode_jpeg(frame().image, 90), data=b"\xff\xd8 and no more")
    with pytest.raises(InvalidInputError):
        encoder.refit(replace(waiting, payload=damaged))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"manifest": "/nowhere/model.yaml"}, "uplink.oip.manifest"),
        ({"datatype": "UINT8"}, "uplink.oip.datatype"),
        ({"spec": Input(height=8, width=8, element=Element.UINT8)}, "uplink.oip.datatype: .* takes UINT8"),
        ({"also": {"max_message_bytes": 500}}, "uplink.max_message_bytes"),
    ],
)
def test_errors_name_the_key(make, changes, key):
    """What cannot work is said at the start, by the name of the key to change."""
    with pytest.raises(ConfigError, match=key):
        make(**changes)


def test_the_clouds_network_must_do_what_the_edges_does(make, tmp_path):
    """A detector cannot stand in for a classifier; it is said at the start."""
    make()
    oip = {"manifest": str(tmp_path), "input": "x", "outputs": ["y"]}
    config = msgspec.convert({"protocol": "oip", "oip": oip}, UplinkConfig)
    with pytest.raises(ConfigError, match=r"uplink.oip.manifest: big does classification"):
        TensorEncoder(config, config.oip, DETECTION)


@pytest.mark.parametrize(
    "keys",
    [
        {"protocol": "oip"},
        {"oip": {"manifest": "m", "input": "x", "outputs": ["y"]}},
        {
            "protocol": "oip",
            "oip": {"manifest": "m", "input": "x", "outputs": ["y"]},
            "payload": "features",
            "split": {"folder": "f", "cuts": ["c"]},
        },
        {"protocol": "oip", "oip": {"manifest": "m", "input": "x", "outputs": []}},
        {
            "protocol": "oip",
            "oip": {"manifest": "m", "input": "x", "outputs": ["y"]},
            "variants": [{"jpeg_quality": 50}],
        },
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys):
    """`oip` needs its section and the section needs `oip`; features and tensors exclude each other."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(keys, UplinkConfig)
