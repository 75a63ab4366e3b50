"""Model folders that would never end loading, take all memory, or reach for other files."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from spillover.common.types import Tensor
from tests.support.models import colour_classifier, save_network

NAME = "hostile"


def endless_loop(repository: Path) -> None:
    """A loop of 2 ** 62 rounds, whatever comes in."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["go_on"]),
            helper.make_node("Add", ["before", "one"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 4]),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    _save(
        repository,
        [helper.make_node("Loop", ["rounds", "", "INPUT0"], ["OUTPUT0"], body=body)],
        {"rounds": np.array(2**62, np.int64)},
    )


def huge_constant(repository: Path, elements: int = 25 * 10**9) -> None:
    """A few bytes that ask for 100 GB, or other numbers of floats."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["INPUT0", "nothing"], ["OUTPUT0"]),
    ]
    _save(repository, nodes, {"shape": np.array([elements], np.int64)})


def rubbish(repository: Path) -> None:
    """No network at all."""
    (_folder(repository) / "model.onnx").write_bytes(b"rubbish")


def network_is_a_pipe(repository: Path) -> None:
    """Reading a pipe that nobody writes to waits for ever."""
    os.mkfifo(_folder(repository) / "model.onnx")


def described_network_is_a_pipe(repository: Path) -> None:
    """The same beside a manifest, which asks for the file's digest."""
    folder = colour_classifier(repository, NAME)
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


def network_is_a_socket(repository: Path) -> None:
    """A socket in its place."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(_folder(repository) / "model.onnx"))


def network_is_a_device(repository: Path) -> None:
    """A link to a device that has zeros without end."""
    (_folder(repository) / "model.onnx").symlink_to("/dev/zero")


def manifest_is_a_pipe(repository: Path) -> None:
    """As the network, the manifest."""
    folder = colour_classifier(repository, NAME)
    (folder / "model.yaml").unlink()
    os.mkfifo(folder / "model.yaml")


def manifest_laughs(repository: Path) -> None:
    """Ten lines of YAML that stand for 10 ** 10 values."""
    path = colour_classifier(repository, NAME) / "model.yaml"
    lines = ["a0: &a0 [l, l, l, l, l, l, l, l, l, l]"]
    lines += [f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 10)]
    path.write_text("\n".join(lines) + "\n" + path.read_text())


def manifest_is_deep(repository: Path) -> None:
    """A list in a list, five hundred times."""
    path = colour_classifier(repository, NAME) / "model.yaml"
    path.write_text("description: " + "[" * 500 + "]" * 500 + "\n" + path.read_text())


def labels_elsewhere(repository: Path) -> None:
    """Names of classes from a file of the server's machine."""
    path = colour_classifier(repository, NAME) / "model.yaml"
    path.write_text(path.read_text().replace("labels: ''", "labels: ../../../../../../../../etc/passwd"))


def labels_by_a_link(repository: Path) -> None:
    """The same by a link inside the folder."""
    folder = colour_classifier(repository, NAME)
    (repository / "secret.txt").write_text("a\nb\nc\n")
    (folder / "labels.txt").symlink_to(repository / "secret.txt")
    path = folder / "model.yaml"
    path.write_text(path.read_text().replace("labels: ''", "labels: labels.txt"))


HOSTILE: Mapping[str, tuple[Callable[[Path], None], str]] = MappingProxyType(
    {
        "endless loop": (endless_loop, r"hostile/1/model\.onnx: not loaded and run once after 3 s"),
        "huge constant": (huge_constant, r"hostile@1: ONNX Runtime failed: .*(alloc|memory)"),
        # Which many machines have, and a network of a few bytes does not need.
        "5 GiB": (
            partial(huge_constant, elements=5 * 2**28),
            r"hostile@1: ONNX Runtime failed: .*(alloc|memory)",
        ),
        "rubbish": (rubbish, r"hostile/1/model\.onnx: ONNX Runtime cannot load it: .*hostile/1/model\.onnx"),
        "network is a pipe": (network_is_a_pipe, r"hostile/1/model\.onnx: is not a regular file"),
        "described network is a pipe": (
            described_network_is_a_pipe,
            r"hostile/1/model\.onnx: is not a regular file",
        ),
        "network is a socket": (network_is_a_socket, r"hostile/1/model\.onnx: No such device"),
        "network is a device": (network_is_a_device, r"hostile/1/model\.onnx: leads out of the repository"),
        "manifest is a pipe": (manifest_is_a_pipe, r"hostile/1/model\.yaml: .*is not a regular file"),
        "manifest laughs": (manifest_laughs, r"hostile/1/model\.yaml:1: not valid YAML: anchors"),
        "manifest is deep": (manifest_is_deep, r"hostile/1/model\.yaml:1: not valid YAML: deeper than 32"),
        "labels elsewhere": (labels_elsewhere, r"hostile/1: .*leads out of the folder"),
        "labels by a link": (labels_by_a_link, r"hostile/1: 'labels\.txt' leads out of the folder"),
    }
)
"""By name: what makes the folder of version 1 of `NAME`, and what the refusal says with 3 s to load."""


def _folder(repository: Path) -> Path:
    folder = repository / NAME / "1"
    folder.mkdir(parents=True)
    return folder


def _save(repository: Path, nodes: Sequence[NodeProto], constants: Mapping[str, Tensor]) -> None:
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    save_network(graph, repository / NAME / "1")
