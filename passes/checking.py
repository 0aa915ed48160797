"""Whether passes keep the model's meaning: the interpreter's logits before and after each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..ir import (
    Array,
    Attribute,
    Graph,
    Module,
    QuantizedArray,
    Value,
    evaluate,
    filled,
    find_operator,
    page_size_of,
)
from ..ir.errors import CompileError

__all__ = ["InterpreterChecker"]

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Tokens ``start`` to ``stop - 1`` of one sequence."""

    sequence: int
    start: int
    stop: int


class InterpreterChecker:
    """Runs modules of any stage on the same two random sequences, of different lengths.

    Before paging each runs whole. After, both go through shuffled pages in ragged steps: a chunk, a single
    token, the rest. A model that gives vectors runs both whole, in one ragged step where it can: its logits
    are these vectors. Only what a pass changed in prepare is computed again.
    """

    def __init__(
        self, weights: Callable[[str], Array], *, vocab_size: int, num_tokens: int = 24, seed: int = 0
    ) -> None:
        """``weights`` gives the checkpoint's tensors by name; the longer sequence is of ``num_tokens``.

        That is at least 4, and at most the ``max_seq_len`` that the passes are given.
        """
        if num_tokens < 4:
            raise CompileError(f"a check needs sequences of at least 4 tokens, not {num_tokens}")
        generator = np.random.default_rng(seed)
        lengths = num_tokens, num_tokens // 2 + 1
        self._sequences = [generator.integers(0, vocab_size, n).astype(np.int32) for n in lengths]
        self._prepared = _Prepared(weights)
        self._logits: dict[Module, Logits] = {}

    def largest_difference(self, before: Module, after: Module) -> float:
        """The largest absolute difference between the two modules' logits; NaN where one has NaN."""
        first, second = self.logits(before), self.logits(after)
        self._logits = {after: second}  # what the next pass starts from
        return float(np.abs(first - second).max())

    def tolerance(self, module: Module) -> float:
        """A thousandth of the largest logit; a tenth where rounded rows amplify the order of float sums."""
        is_rounded = any(operation.operator == "quantize" for operation in module.forward.operations)
        largest = max((float(np.abs(logits).max()) for logits in self._logits.values()), default=0.0)
        return max(largest, 1.0) * (0.1 if is_rounded else 1e-3)

    def logits(self, module: Module) -> Logits:
        """Logits ``[tokens of both sequences, vocabulary]``, float32."""
        if module not in self._logits:
            parameters = self._prepared.outputs(module.prepare)
            if module.stage == "paged":
                self._logits[module] = _in_steps(module.forward, parameters, self._sequences)
            elif module.stage == "ragged":
                self._logits[module] = _side_by_side(module.forward, parameters, self._sequences)
            else:
                whole = [_whole(module.forward, parameters, tokens) for tokens in self._sequences]
                self._logits[module] = np.concatenate(whole)
        return self._logits[module]


class _Prepared:
    """Outputs of prepare graphs; an expression over the checkpoint is computed once, in whatever graph."""

    def __init__(self, weights: Callable[[str], Array]) -> None:
        self._weights = weights
        self._numbers: dict[Hashable, int] = {}
        self._arrays: dict[int, Array] = {}

    def outputs(self, graph: Graph) -> dict[str, Array]:
        """The outputs of ``graph`` by name; all else is forgotten."""
        numbers = {value: self._number(("checkpoint", value.name)) for value in graph.inputs}
        for operation in graph.operations:
            attributes = tuple(
                (key, _frozen(operation.attributes[key])) for key in sorted(operation.attributes)
            )
            operands = tuple(numbers[operand] for operand in operation.operands)
            for index, result in enumerate(operation.results):
                numbers[result] = self._number((operation.operator, operands, attributes, index))
        arrays = {value.name: self._array(value, graph, numbers) for value in graph.outputs}
        kept = {numbers[value] for value in graph.outputs}
        self._arrays = {number: array for number, array in self._arrays.items() if number in kept}
        return arrays

    def _number(self, expression: Hashable) -> int:
        return self._numbers.setdefault(expression, len(self._numbers))

    def _array(self, value: Value, graph: Graph, numbers: Mapping[Value, int]) -> Array:
        if numbers[value] not in self._arrays:
            operation = graph.producers.get(value)
            if operation is None:
                self._arrays[numbers[value]] = self._weights(value.name)
            else:
                operands = [self._array(operand, graph, numbers) for operand in operation.operands]
                results = find_operator(operation.operator).evaluate(operands, operation.attributes, {})
                for result, array in zip(operation.results, results, strict=True):
                    self._arrays[numbers[result]] = array
        return self._arrays[numbers[value]]


def _frozen(attribute: Attribute) -> Hashable:
    if isinstance(attribute, np.ndarray):
        return attribute.dtype.name, attribute.shape, attribute.tobytes()
    return attribute


def _whole(forward: Graph, parameters: Mapping[str, Array], token_ids: Tokens) -> Logits:
    return _plain(evaluate(forward, {**parameters, **_tokens(token_ids)})[0])


def _side_by_side(forward: Graph, parameters: Mapping[str, Array], sequences: Sequence[Tokens]) -> Logits:
    """Vectors of whole sequences in one ragged step."""
    lengths = np.array([len(tokens) for tokens in sequences], np.int32)
    inputs = [_tokens(tokens) for tokens in sequences]
    batch = {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}
    batch["sequence_starts"] = np.cumsum([0, *lengths]).astype(np.int32)
    batch["context_lengths"] = lengths
    return _plain(evaluate(forward, {**parameters, **batch})[0])


def _tokens(token_ids: Tokens) -> dict[str, Tokens]:
    """A whole sequence's tokens, positions and types: as in a pair of texts 0, and from half on 1."""
    places = np.arange(len(token_ids), dtype=np.int32)
    types = (places >= len(token_ids) // 2).astype(np.int32)
    return {"token_ids": token_ids, "positions": places, "token_types": types}


def _in_steps(forward: Graph, parameters: Mapping[str, Array], sequences: Sequence[Tokens]) -> Logits:
    """Logits over pages, in three ragged steps."""
    long, short = (len(tokens) for tokens in sequences)
    third = long // 3
    steps = (
        (_Chunk(0, 0, third), _Chunk(1, 0, short - 1)),
        (_Chunk(0, third, third + 1), _Chunk(1, short - 1, short)),
        (_Chunk(0, third + 1, long),),
    )
    page_size = page_size_of(forward)
    table = _page_table([long, short], page_size)
    symbols = {"pages": table.size}
    # Whatever reads a slot before it is written shows up as NaN.
    states = [filled(state.type, symbols, np.nan) for state in forward.states]
    rows: list[list[Logits]] = [[], []]
    for chunks in steps:
        batch = _batch(chunks, sequences, table, page_size)
        by_name = dict(zip((state.name for state in forward.states), states, strict=True))
        logits, *states = evaluate(forward, {**parameters, **batch, **by_name})
        bounds = np.cumsum([chunk.stop - chunk.start for chunk in chunks])[:-1]
        for chunk, part in zip(chunks, np.split(_plain(logits), bounds), strict=True):
            rows[chunk.sequence].append(part)
    return np.concatenate([*rows[0], *rows[1]])


def _page_table(lengths: Sequence[int], page_size: int) -> Tokens:
    """Pages for sequences of ``lengths``, interleaved and in falling order, as after a long run."""
    width = max(-(-length // page_size) for length in lengths)
    pages = np.arange(len(lengths) * width, dtype=np.int32)[::-1]
    return pages.reshape(width, len(lengths)).T


def _batch(
    chunks: Sequence[_Chunk], sequences: Sequence[Tokens], table: Tokens, page_size: int
) -> dict[str, Array]:
    """The inputs of one step over ``chunks``, all of whose logits are wanted."""
    positions = np.concatenate([np.arange(chunk.start, chunk.stop, dtype=np.int32) for chunk in chunks])
    owners = np.repeat([chunk.sequence for chunk in chunks], [chunk.stop - chunk.start for chunk in chunks])
    slots = table[owners, positions // page_size] * page_size + positions % page_size
    starts = np.cumsum([0, *(chunk.stop - chunk.start for chunk in chunks)])
    return {
        "token_ids": np.concatenate(
            [sequences[chunk.sequence][chunk.start : chunk.stop] for chunk in chunks]
        ),
        "positions": positions,
        "sequence_starts": starts.astype(np.int32),
        "context_lengths": np.array([chunk.stop for chunk in chunks], np.int32),
        "page_table": table[[chunk.sequence for chunk in chunks]],
        "slots": slots.astype(np.int32),
        "logit_rows": np.arange(len(positions), dtype=np.int32),
    }


def _plain(array: Array) -> Logits:
    if isinstance(array, QuantizedArray):
        raise CompileError("a module's first output must be logits, not a quantized tensor")
    return array.astype(np.float32, copy=False)
