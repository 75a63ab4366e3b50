"""The parts of a graph whose values are known without running it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spillover.lab.models.tfjs.files import Array, Node, TfjsModel

BATCH = 1
"""What a network is told its number of pictures is, where it asks."""


class Constants:
    """Values of nodes that depend on weights and other such nodes alone."""

    def __init__(self, model: TfjsModel) -> None:
        self._model = model
        self._known: dict[str, Array | None] = {}

    def value(self, name: str) -> Array | None:
        """The value of `name`; None where it depends on the picture."""
        name = name.removesuffix(":0")
        if name not in self._known:
            self._known[name] = self._computed(name)
        return self._known[name]

    def _computed(self, name: str) -> Array | None:
        if name in self._model.weights:
            return self._model.weights[name]
        node = self._model.nodes.get(name)
        if node is None or node.op not in _FOLDED:
            return None
        if self._is_batch(node):
            return np.array(BATCH, np.int32)
        inputs = [self.value(one) for one in node.inputs]
        known = [one for one in inputs if one is not None]
        return _FOLDED[node.op](known) if known and len(known) == len(inputs) else None

    def _is_batch(self, node: Node) -> bool:
        """Whether it is element 0 of the shape of a tensor."""
        if node.op != "StridedSlice":
            return False
        source, begin = self._model.nodes.get(node.inputs[0]), self.value(node.inputs[1])
        return source is not None and source.op == "Shape" and begin is not None and not begin.any()


def _dense(inputs: Sequence[Array]) -> Array:
    """SparseToDense: indices (K, rank), shape, values, and what is everywhere else."""
    indices, shape, values, rest = inputs
    dense: Array = np.full(shape, rest)
    if indices.size:
        dense[tuple(indices.reshape(-1, len(shape)).T)] = values
    return dense


def _unknown(inputs: Sequence[Array]) -> None:
    del inputs


_FOLDED: Mapping[str, Callable[[Sequence[Array]], Array | None]] = {
    "Add": lambda inputs: inputs[0] + inputs[1],
    "AddV2": lambda inputs: inputs[0] + inputs[1],
    "Identity": lambda inputs: inputs[0],
    "Pack": np.stack,
    "SparseToDense": _dense,
    "StridedSlice": _unknown,
}
