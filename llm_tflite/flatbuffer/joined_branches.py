"""Do once what a graph does alike to two neighbouring parts of one tensor.

Query and key are rows of one product (``stacked_products``), and both are normalized and rotated.
Operations that treat each head on its own give the same numbers for the heads of both, so they run
once on all of these heads, and what comes out is taken apart instead of what goes in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .model import copy_tensor, operator_code
from .operators import Operators
from .parallel_operations import axis_behind, joint_constant, same_options

_Op = schema.BuiltinOperator
_Type = schema.TensorType
# Fewer are not worth the larger tensors.
_LEAST_SAVED = 2


@dataclass(frozen=True)
class _Joint:
    """Two tensors as one.

    Attributes:
        tensor: Its index.
        axis: Along which the second follows the first, counted from the last, which is -1.
        sizes: Of both along it.
    """

    tensor: int
    axis: int
    sizes: tuple[int, int]


class JoinedBranches:
    """Joins branches in the graphs of a model."""

    def __init__(self, model: Any, operators: Operators) -> None:
        """Remember the model.

        Args:
            model: A ``ModelT``, whose graphs are changed in place.
            operators: Makes what is added to them.
        """
        self.model, self.operators = model, operators
        # A cosine times the scale of queries and that of keys is the same for all layers.
        self.scaled: dict[tuple[object, ...], int] = {}

    def join(self, subgraph: Any, whole: int, parts: Sequence[int]) -> None:
        """Join what is done alike to two parts of a tensor that follow one another.

        Args:
            subgraph: One of the model's.
            whole: A tensor whose last axis was taken apart.
            parts: The tensors that it was taken apart into, in order.
        """
        ends = _Ends(subgraph)
        for first in range(len(parts) - 1):
            branches = _Branches(self, ends, whole, parts, first)
            branches.follow()
            copies = branches.copies()
            if branches.saved(copies) >= _LEAST_SAVED:
                branches.commit(copies)
                return


class _Ends:
    """What reads and what makes each tensor of a graph.

    Attributes:
        subgraph: The graph.
        readers: Operations by the tensors that they read.
        makers: By those that they make.
    """

    def __init__(self, subgraph: Any) -> None:
        self.subgraph = subgraph
        self.readers: dict[int, list[Any]] = {}
        for operator in subgraph.operators:
            for tensor in {int(index) for index in operator.inputs}:
                self.readers.setdefault(tensor, []).append(operator)
        self.makers = {int(t): o for o in subgraph.operators for t in o.outputs}


class _Branches:
    """Two parts of a tensor, and what a graph makes of both alike."""

    def __init__(
        self, owner: JoinedBranches, ends: _Ends, whole: int, parts: Sequence[int], first: int
    ) -> None:
        self._owner, self._subgraph, self._whole = owner, ends.subgraph, whole
        self._readers, self._makers = ends.readers, ends.makers
        self._parts, self._pair = parts, (parts[first], parts[first + 1])
        self._joints: dict[tuple[int, int], _Joint] = {}
        self._members: set[int] = set()
        # The joint operation for each of the two that it stands for, by their identity.
        self._joint_operators: dict[int, Any] = {}
        # What is made for the joint ones, behind the operation that makes what it needs.
        self._added: dict[int | None, list[Any]] = {}
        self._scaled = dict(owner.scaled)
        self._take(self._pair, -1, whole if len(parts) == 2 else None)

    def _shape(self, tensor: int) -> list[int]:
        return [int(size) for size in self._subgraph.tensors[tensor].shape]

    def _constant(self, tensor: int) -> np.ndarray | None:
        known = self._subgraph.tensors[tensor]
        data = self._owner.model.buffers[known.buffer].data
        dtype = {_Type.FLOAT32: np.float32, _Type.INT32: np.int32}.get(known.type)
        if data is None or dtype is None:
            return None
        return np.frombuffer(bytes(data), dtype).reshape(self._shape(tensor))

    def _take(self, pair: tuple[int, int], axis: int, tensor: int | None = None) -> int:
        """Note that two tensors are parts of one, which is made unless it is there."""
        sizes = self._shape(pair[0])[axis], self._shape(pair[1])[axis]
        if tensor is None:
            tensor = copy_tensor(self._subgraph, pair[0], b"_joint", _Type.FLOAT32)
            shape = np.array(self._subgraph.tensors[tensor].shape, np.int32)
            shape[axis] = sum(sizes)
            self._subgraph.tensors[tensor].shape = shape
        self._joints[pair] = _Joint(tensor, axis, sizes)
        self._members.update(pair)
        return tensor

    def follow(self) -> None:
        """Find all operations that both branches have; the graph stays as it is."""
        for operator in self._subgraph.operators:
            if not any(int(index) in self._members for index in operator.inputs):
                continue
            for other in self._candidates(operator):
                if self._join(operator, other):
                    break

    def _candidates(self, operator: Any) -> Iterator[Any]:
        """Operations that may do to the second part what this one does to the first."""
        for first, second in list(self._joints):
            if first in operator.inputs:
                for other in self._readers.get(second, []):
                    taken = id(other) in self._joint_operators or other is operator
                    if not taken and other.opcodeIndex == operator.opcodeIndex:
                        yield other

    def _join(self, operator: Any, other: Any) -> bool:
        code = operator_code(self._owner.model, operator)
        pairs = list(zip(map(int, operator.inputs), map(int, other.inputs), strict=False))
        joints = [self._joints[pair] for pair in pairs if pair in self._joints]
        if (
            len(operator.inputs) != len(other.inputs)
            or not same_options(operator, other)
            or len({(joint.axis, joint.sizes) for joint in joints}) != 1
            or id(operator) in self._joint_operators
            or (code == _Op.CONCATENATION and len(joints) < len(pairs))  # which broadcasts nothing
        ):
            return False
        results = list(zip(map(int, operator.outputs), map(int, other.outputs), strict=True))
        axis = axis_behind(
            code,
            operator,
            joints[0].axis,
            shapes=[(self._shape(a), self._shape(b)) for a, b in (pairs[0], results[0])],
            constants=[self._constant(index) for index, _ in pairs],
            others=[self._constant(index) for _, index in pairs],
        )
        if axis is None:
            return False
        inputs = [self._joint_input(pair, joints[0]) for pair in pairs]
        if any(index is None for index in inputs):
            return False
        joined = copy.copy(operator)
        joined.inputs = np.array(inputs, np.int32)
        joined.outputs = np.array([self._take(pair, axis) for pair in results], np.int32)
        if code == _Op.RESHAPE:
            joined = self._owner.operators.reshape(
                self._subgraph, int(joined.inputs[0]), int(joined.outputs[0])
            )
        self._joint_operators[id(operator)] = self._joint_operators[id(other)] = joined
        return True

    def _joint_input(self, pair: tuple[int, int], joint: _Joint) -> int | None:
        """What a joint operation reads where the two read these tensors."""
        if pair in self._joints:
            return self._joints[pair].tensor
        if self._members & set(pair):
            return None
        one, other = (self._constant(index) for index in pair)
        if one is not None and other is not None:
            # Integers say where and how large; ``axis_behind`` and the results' shapes see to them.
            same = one.shape == other.shape and bool((one == other).all())
            if one.dtype != np.float32 or (same and _is_single(one.shape, joint.axis)):
                return pair[0]
            values = joint_constant(one, other, joint.axis, joint.sizes)
            made = self._owner.operators
            return None if values is None else made.constant(self._subgraph, values)
        if pair[0] == pair[1]:
            return pair[0] if _is_single(self._shape(pair[0]), joint.axis) else None
        return self._scaled_input(pair, joint)

    def _scaled_input(self, pair: tuple[int, int], joint: _Joint) -> int | None:
        """A tensor times two numbers, one for each part."""
        for base, factors in self._as_scaled(pair):
            shape = self._shape(base)
            if base in self._members or not _is_single(shape, joint.axis):
                continue
            key = (id(self._subgraph), base, factors, joint.sizes, joint.axis)
            if key not in self._scaled:
                rows = np.repeat(np.array(factors, np.float32), joint.sizes)
                rows = rows.reshape(-1, *[1] * (-joint.axis - 1))
                constant = self._owner.operators.constant(self._subgraph, rows)
                target = copy_tensor(self._subgraph, base, b"_joint", _Type.FLOAT32)
                whole = [1] * max(0, -joint.axis - len(shape)) + shape
                whole[joint.axis] = sum(joint.sizes)
                self._subgraph.tensors[target].shape = np.array(whole, np.int32)
                maker = self._makers.get(base)
                self._added.setdefault(None if maker is None else id(maker), []).append(
                    self._owner.operators.multiply(base, constant, target)
                )
                self._scaled[key] = target
            return self._scaled[key]
        return None

    def _as_scaled(self, pair: tuple[int, int]) -> Iterator[tuple[int, tuple[float, float]]]:
        forms = [[(index, 1.0), *self._scale_of(index)] for index in pair]
        for base, factor in forms[0]:
            for other, other_factor in forms[1]:
                if base == other:
                    yield base, (factor, other_factor)

    def _scale_of(self, tensor: int) -> Iterator[tuple[int, float]]:
        """What a tensor is a multiple of, and how many times."""
        maker = self._makers.get(tensor)
        if maker is None or operator_code(self._owner.model, maker) != _Op.MUL:
            return
        if maker.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.NONE:
            return
        first, second = (int(index) for index in maker.inputs)
        for base, factor in ((first, second), (second, first)):
            values = self._constant(factor)
            if values is not None and values.size == 1 and self._constant(base) is None:
                yield base, float(values.reshape(()))

    def saved(self, copies: Mapping[int, Sequence[Any]]) -> int:
        """How many operations fewer a graph would have with these copies."""
        joined = len(self._joint_operators) // 2
        before = sum(map(self._takes_apart, self._readers[self._whole]))
        return joined + before - sum(map(len, copies.values()))

    def _takes_apart(self, operator: Any) -> bool:
        """Whether an operation makes the parts that all this began with."""
        return self._whole in operator.inputs and any(
            int(t) in self._parts for t in operator.outputs
        )

    def copies(self) -> dict[int, list[Any]]:
        """What takes tensors apart, by the joint tensor or the whole."""
        operators, graph = self._owner.operators, self._subgraph
        copies: dict[int, list[Any]] = {}
        outputs = {int(index) for index in graph.outputs}
        for pair, joint in self._joints.items():
            begins = (0, joint.sizes[0])
            wanted = [
                (begin, tensor)
                for begin, tensor in zip(begins, pair, strict=True)
                if tensor in outputs
                or any(id(o) not in self._joint_operators for o in self._readers.get(tensor, []))
            ]
            axis = len(self._shape(joint.tensor)) + joint.axis
            if wanted:
                copies[joint.tensor] = operators.take_apart(graph, joint.tensor, axis, wanted)
        start = self._joints[self._pair].tensor
        if start != self._whole:
            ends, begin = [], 0
            for part in self._parts:
                if part not in self._pair:
                    ends.append((begin, part))
                elif part == self._pair[0]:
                    ends.append((begin, start))
                begin += self._shape(part)[-1]
            last = len(self._shape(self._whole)) - 1
            apart = operators.take_apart(graph, self._whole, last, ends)
            copies[self._whole] = apart + copies.pop(start, [])
        return copies

    def commit(self, copies: Mapping[int, Sequence[Any]]) -> None:
        """Change the graph."""
        self._owner.scaled = self._scaled
        done: set[int] = set()
        kept = list(self._added.get(None, []))
        for operator in self._subgraph.operators:
            if self._takes_apart(operator):
                continue
            joined = self._joint_operators.get(id(operator), operator)
            if id(joined) in done:
                continue
            done.add(id(joined))
            kept.append(joined)
            kept += self._added.get(id(operator), [])
            for output in joined.outputs:
                kept += copies.get(int(output), [])
        self._subgraph.operators = kept
        self._drop_unread_products()

    def _drop_unread_products(self) -> None:
        """Scaled cosines and sines that nothing reads any more."""
        graph = self._subgraph
        read = {int(index) for operator in graph.operators for index in operator.inputs}
        read |= {int(index) for index in graph.outputs}
        graph.operators = [
            operator
            for operator in graph.operators
            if operator_code(self._owner.model, operator) != _Op.MUL
            or int(operator.outputs[0]) in read
        ]


def _is_single(shape: Sequence[int], axis: int) -> bool:
    """Whether a tensor is the same for all of a joint tensor's axis."""
    return len(shape) < -axis or shape[axis] == 1
