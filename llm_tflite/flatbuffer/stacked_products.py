"""Multiply one activation with several matrices as with one that has all of their rows.

Query, key and value of a layer, or gate and up of its feed-forward network, read the same
activation. As one FULLY_CONNECTED they quantize it once, and the runtime's threads meet once; what
follows alike on queries and keys runs once on both (``joined_branches``). Rows of a product do not
depend on one another, so every result stays the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..quantization import QuantizedTensor
from .joined_branches import JoinedBranches
from .model import copy_tensor, operator_code
from .operators import Operators
from .weights import WeightSite

_Op = schema.BuiltinOperator
_Type = schema.TensorType


@dataclass(frozen=True, eq=False)
class _Product:
    """A FULLY_CONNECTED that reads a weight."""

    subgraph: Any
    operator: Any

    @property
    def source(self) -> int:
        """The activation."""
        return int(self.operator.inputs[0])

    @property
    def bias(self) -> int:
        """The tensor that is added to each row of the result; -1 if there is none."""
        return int(self.operator.inputs[2]) if len(self.operator.inputs) > 2 else -1

    @property
    def output(self) -> int:
        """The result."""
        return int(self.operator.outputs[0])


class StackedProducts:
    """Finds the products of a model that can be one, and makes them one."""

    def __init__(self, model: Any, sites: Mapping[str, Sequence[WeightSite]]) -> None:
        """Look at every product.

        Args:
            model: A ``ModelT``, whose tensors at ``sites`` wait for their weights.
            sites: Where each weight belongs, by its name.
        """
        self._model = model
        self._sites = sites
        self._operators = Operators(model)
        self._branches = JoinedBranches(model, self._operators)
        readers = [_readers(graph) for graph in model.subgraphs]
        self._products = {name: self._products_of(found, readers) for name, found in sites.items()}

    def _products_of(
        self, sites: Sequence[WeightSite], readers: Sequence[Mapping[int, Sequence[_Product]]]
    ) -> list[_Product]:
        """A weight's products, one for each of its sites; none if it is used in any other way."""
        products = []
        for site in sites:
            found = readers[site.subgraph].get(site.tensor, [])
            if len(found) != 1 or not self._is_plain(found[0], site.tensor):
                return []
            products.append(found[0])
        graphs = {site.subgraph for site in sites}
        return products if len(graphs) == len(sites) else []

    def _is_plain(self, product: _Product, weight: int) -> bool:
        operator = product.operator
        if operator_code(self._model, operator) != _Op.FULLY_CONNECTED:
            return False
        none = schema.ActivationFunctionType.NONE
        constant = product.bias < 0 or self._content(product.subgraph, product.bias) is not None
        return bool(
            constant
            and operator.inputs[1] == weight
            and operator.builtinOptions.fusedActivationFunction == none
        )

    def _content(self, subgraph: Any, tensor: int) -> Any:
        return self._model.buffers[subgraph.tensors[tensor].buffer].data

    def groups(self, names: Iterable[str]) -> list[list[str]]:
        """Return all names, those together whose products read the same activation everywhere."""
        together: dict[Hashable, list[str]] = {}
        for name in names:
            products = self._products[name]
            key = frozenset(
                (id(p.subgraph), p.source, p.bias >= 0, p.operator.builtinOptions.keepNumDims)
                for p in products
            )
            together.setdefault(key or name, []).append(name)
        return list(together.values())

    def stack(self, names: Sequence[str]) -> Sequence[WeightSite]:
        """Make the products of some names of a group one, if there are several.

        Args:
            names: In the order of their rows.

        Returns:
            Where the one weight belongs, ``[sum of rows, in]``.
        """
        if len(names) > 1:
            by_graph = [{id(p.subgraph): p for p in self._products[name]} for name in names]
            for graph in by_graph[0]:
                self._merge([products[graph] for products in by_graph])
        return self._sites[names[0]]

    def _merge(self, products: Sequence[_Product]) -> None:
        """Put the first product in the place of all, and its parts where their results were."""
        first, subgraph = products[0], products[0].subgraph
        outputs = [product.output for product in products]
        rows = [int(subgraph.tensors[output].shape[-1]) for output in outputs]
        ends = first.operator.inputs[:2]
        if first.bias >= 0:
            first.operator.inputs = np.array([*ends, self._stacked_bias(products)], np.int32)
        weight = subgraph.tensors[int(ends[1])]
        weight.shape = np.array([sum(rows), weight.shape[1]], np.int32)
        whole = copy_tensor(subgraph, outputs[0], b"_stacked", _Type.FLOAT32)
        shape = np.array(subgraph.tensors[whole].shape)
        shape[-1] = sum(rows)
        subgraph.tensors[whole].shape = shape
        first.operator.outputs = np.array([whole], np.int32)

        merged = {id(product.operator) for product in products}
        position = next(i for i, o in enumerate(subgraph.operators) if id(o) in merged)
        kept = [o for o in subgraph.operators if id(o) not in merged]
        begins = np.cumsum([0, *rows[:-1]]).tolist()
        parts = self._operators.take_apart(
            subgraph, whole, len(shape) - 1, list(zip(begins, outputs, strict=True))
        )
        subgraph.operators = [*kept[:position], first.operator, *parts, *kept[position:]]
        self._branches.join(subgraph, whole, outputs)

    def _stacked_bias(self, products: Sequence[_Product]) -> int:
        contents = [bytes(self._content(p.subgraph, p.bias)) for p in products]
        return self._operators.constant(
            products[0].subgraph, np.frombuffer(b"".join(contents), np.float32)
        )


def alike(tensors: Mapping[str, QuantizedTensor]) -> list[list[str]]:
    """Return all names, those together whose tensors one product can read.

    A product of integers to integers has one scale for its output, and a row of four bits must be
    whole bytes.
    """
    together: dict[Hashable, list[str]] = {}
    for name, tensor in tensors.items():
        form = (tensor.bits, tensor.block_size, tensor.activations)
        whole_bytes = tensor.values.shape[1] * tensor.bits % 8 == 0
        stackable = whole_bytes and tensor.activations != "static"
        together.setdefault(form if stackable else name, []).append(name)
    return list(together.values())


def stacked(tensors: Sequence[QuantizedTensor]) -> QuantizedTensor:
    """Return the rows of tensors that are ``alike``, one below the other."""
    if len(tensors) == 1:
        return tensors[0]
    scales = [tensor.scales for tensor in tensors if tensor.scales is not None]
    return QuantizedTensor(
        np.concatenate([tensor.values for tensor in tensors]),
        bits=tensors[0].bits,
        scales=np.concatenate(scales) if scales else None,
        block_size=tensors[0].block_size,
        activations=tensors[0].activations,
    )


def _readers(subgraph: Any) -> dict[int, list[_Product]]:
    """By tensor, the operations that read it, as products."""
    readers: dict[int, list[_Product]] = {}
    for operator in subgraph.operators:
        for tensor in {int(index) for index in operator.inputs}:
            readers.setdefault(tensor, []).append(_Product(subgraph, operator))
    return readers
