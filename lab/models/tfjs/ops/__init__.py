"""What each operator of TensorFlow becomes in ONNX: a table, and a module for each family."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from spillover.lab.models.tfjs.files import Node
from spillover.lab.models.tfjs.graph import Graph, Value
from spillover.lab.models.tfjs.ops import convolution, elementwise, planes, shapes

Convert = Callable[[Graph, Node], Sequence[Value]]
"""Adds a node to the graph and gives its outputs. Raises ModelError where it is of a kind not known here."""

OPS: Mapping[str, Convert] = MappingProxyType(
    {
        "Add": elementwise.add,
        "AddN": elementwise.add,
        "AddV2": elementwise.add,
        "BiasAdd": elementwise.add,
        "ConcatV2": shapes.concat,
        "Conv2D": convolution.conv,
        "DepthwiseConv2dNative": convolution.depthwise_conv,
        "FusedBatchNorm": convolution.batch_norm,
        "FusedBatchNormV3": convolution.batch_norm,
        "Identity": elementwise.identity,
        "LeakyRelu": elementwise.leaky_relu,
        "MaxPool": planes.max_pool,
        "Mul": elementwise.mul,
        "Pad": planes.pad,
        "PadV2": planes.pad,
        "Relu": elementwise.relu,
        "Relu6": elementwise.relu6,
        "Reshape": shapes.reshape,
        "ResizeBilinear": planes.resize_bilinear,
        "Sigmoid": elementwise.sigmoid,
        "SplitV": shapes.split,
        "Sub": elementwise.sub,
        "Transpose": shapes.transpose,
    }
)
