"""EfficientNet-Lite as ONNX: its shapes, names, padding and folded batch norms, on weights made here."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ModelError
from spillover.lab.models.prepare.efficientnet_lite import (
    SCALINGS,
    blocks,
    build_efficientnet_lite,
)
from spillover.lab.models.tfjs.ops.windows import same_padding
from spillover.lab.split.extract import Half

SIZE = 33  # odd, so that SAME padding is one-sided somewhere


def _norm(state, key, channels, random):
    state[f"{key}.weight"] = random.uniform(0.5, 1.5, channels)
    state[f"{key}.bias"] = random.normal(0, 0.1, channels)
    state[f"{key}.running_mean"] = random.normal(0, 0.1, channels)
    state[f"{key}.running_var"] = random.uniform(0.5, 1.5, channels)


def _random_state(scaling):
    random = np.random.default_rng(0)
    state = {}

    def conv(key, norm, *shape):
        state[f"{key}.weight"] = random.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        _norm(state, norm, shape[0], random)

    conv("_conv_stem", "_bn0", 32, 3, 3, 3)
    for block in blocks(scaling):
        wide = block.channels_in * block.expansion
        if block.expansion > 1:
            conv(f"{block.key}._expand_conv", f"{block.key}._bn0", wide, block.channels_in, 1, 1)
        conv(f"{block.key}._depthwise_conv", f"{block.key}._bn1", wide, 1, block.kernel, block.kernel)
        conv(f"{block.key}._project_conv", f"{block.key}._bn2", block.channels_out, wide, 1, 1)
    conv("_conv_head", "_bn1", 1280, block.channels_out, 1, 1)
    state |= {"_fc.weight": random.normal(0, 0.03, (10, 1280)), "_fc.bias": random.normal(0, 1, 10)}
    return state


@pytest.fixture(scope="module")
def state():
    """A state dict of Lite0 with random weights and ten classes."""
    return _random_state(SCALINGS[0])


@pytest.fixture(scope="module")
def network(state):
    """Lite0 with those weights."""
    return build_efficientnet_lite(SCALINGS[0], state, SIZE)


@pytest.mark.parametrize(("lite", "count", "last"), [(0, 16, 320), (2, 21, 352)])
def test_scaling_gives_the_published_depth_and_width(lite, count, last):
    """The number of blocks and the last width are those of the released networks."""
    made = list(blocks(SCALINGS[lite]))
    assert len(made) == count
    assert made[-1].channels_out == last


def test_the_batch_axis_is_dynamic_and_pictures_do_not_mix(network, tmp_path):
    """A batch of three gives the logits of its three pictures."""
    onnx.save(network, tmp_path / "lite.onnx")
    half = Half(tmp_path / "lite.onnx")
    pictures = np.random.default_rng(1).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    (together,) = half.run([pictures])
    alone = [half.run([picture[None]])[0][0] for picture in pictures]
    assert together.shape == (3, 10)
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_nodes_are_named_by_block_and_write_tensors_of_that_name(network):
    """Every node can be found by where it stands, and so can the tensor it writes."""
    names = [node.name for node in network.graph.node]
    assert len(set(names)) == len(names)
    assert {"stem/conv", "blocks.1.0/expand/conv", "blocks.3.1/add", "head/pool", "logits"} <= set(names)
    assert all(list(node.output) == [node.name] for node in network.graph.node)


def test_a_folded_norm_computes_what_convolution_and_norm_compute(network, state, tmp_path):
    """The stem's output equals padding, convolution, normalisation written out in numpy."""
    stem_only = type(network)()
    stem_only.CopyFrom(network)
    stem_only.graph.output[0].name = "stem/conv"
    del stem_only.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(stem_only, tmp_path / "stem.onnx")
    picture = np.random.default_rng(2).normal(size=(3, SIZE, SIZE)).astype(np.float32)
    (found,) = Half(tmp_path / "stem.onnx").run([picture[None]])

    before, after, out = same_padding(SIZE, 3, 2)
    padded = np.pad(picture, ((0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    conv = np.einsum("cyxij,ocij->oyx", windows, state["_conv_stem.weight"])
    mean, variance, gamma, beta = (
        state[f"_bn0.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    expected = (conv - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    assert found.shape == (1, 32, out, out)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


@given(size=st.integers(1, 300), kernel=st.sampled_from([1, 3, 5]), stride=st.sampled_from([1, 2]))
def test_same_padding_covers_every_pixel_and_adds_no_more(size, kernel, stride):
    """The output size is ceil(size / stride), the odd pixel comes after, and no window is all padding."""
    before, after, out = same_padding(size, kernel, stride)
    assert out == -(-size // stride)
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == out
    assert before < kernel
    assert after < kernel


def test_a_missing_tensor_is_named(state):
    """A checkpoint of another network is refused by the name of what it lacks."""
    del (short := dict(state))["_blocks.7._project_conv.weight"]
    with pytest.raises(ModelError, match=r"_blocks\.7\._project_conv\.weight"):
        build_efficientnet_lite(SCALINGS[0], short, SIZE)


def test_a_tensor_of_another_shape_is_named(state):
    """Weights of Lite0 do not pass for Lite2."""
    with pytest.raises(ModelError, match=r"_blocks.* has shape"):
        build_efficientnet_lite(SCALINGS[2], state, SIZE)
