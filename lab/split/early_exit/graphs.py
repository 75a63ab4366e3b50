"""Fitted layers as ONNX nodes."""

from typing import Any

from onnx import GraphProto, TensorProto, helper, numpy_helper

from spillover.lab.split.early_exit.fit import Skip
from spillover.lab.split.early_exit.linear import Linear


def skip_graph(skip: Skip, source: str, target: str) -> GraphProto:
    """The fitted layer as nodes; pooled: mean over the picture, then 1x1, then no spatial axes."""
    weights = [
        numpy_helper.from_array(skip.weight, "exit/skip/weight"),
        numpy_helper.from_array(skip.bias, "exit/skip/bias"),
    ]
    inputs = ["exit/skip/weight", "exit/skip/bias"]
    before, after = skip.pads
    conv: dict[str, Any] = {
        "kernel_shape": skip.weight.shape[2:],
        "strides": [skip.stride] * 2,
        "pads": [before, before, after, after],
    }
    if not skip.pooled:
        nodes = [helper.make_node("Conv", [source, *inputs], [target], "exit/skip", **conv)]
    else:
        nodes = [
            helper.make_node("GlobalAveragePool", [source], ["exit/skip/mean"], "exit/skip/mean"),
            helper.make_node("Conv", ["exit/skip/mean", *inputs], ["exit/skip/out"], "exit/skip", **conv),
            helper.make_node("Flatten", ["exit/skip/out"], [target], "exit/skip/flat"),
        ]
    return helper.make_graph(nodes, "skip", [], [], weights)


def linear_graph(layer: Linear, source: str, *, probabilities: bool) -> GraphProto:
    """Average pool, flatten, linear layer, and softmax where the network's output is probabilities."""
    weights = [
        numpy_helper.from_array(layer.weight, "exit/linear/weight"),
        numpy_helper.from_array(layer.bias, "exit/linear/bias"),
    ]
    nodes = []
    if layer.kernel:
        pool: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride}
        nodes.append(helper.make_node("AveragePool", [source], ["exit/pooled"], "exit/pooled", **pool))
        source = "exit/pooled"
    names = ["exit/flat", "exit/linear/weight", "exit/linear/bias"]
    nodes.append(helper.make_node("Flatten", [source], ["exit/flat"], "exit/flat"))
    nodes.append(helper.make_node("Gemm", names, ["exit/logits"], "exit/linear", transB=1))
    if probabilities:
        nodes.append(helper.make_node("Softmax", ["exit/logits"], ["exit/classes"], "exit/softmax", axis=-1))
    classes = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", len(layer.bias)])
    return helper.make_graph(nodes, "linear", [], [classes], weights)
