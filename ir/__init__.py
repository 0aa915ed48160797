"""The intermediate representation: types, operators, graphs, their text, and what they mean."""

from .errors import IngotError, IRError, ParseError, VerificationError
from .graph import Graph, GraphBuilder, Module, Operation, Value
from .interpreter import bind_symbols, evaluate, filled
from .operator import OPERATORS, Array, Attribute, Operator, find_operator
from .paging import page_bytes_of, page_size_of, row_bytes_of
from .parser import parse_module
from .printer import print_graph, print_module
from .quantization import (
    FORMATS,
    QuantFormat,
    QuantizedArray,
    dequantize,
    find_format,
    pack_blocks,
    quantize,
    unpack_blocks,
)
from .stages import STAGES, Rule, StageSpec, find_stage
from .types import Dim, Element, ScalarType, TensorType, bind_shape, parse_element
from .verifier import find_violations, verify

__all__ = [
    "FORMATS",
    "OPERATORS",
    "STAGES",
    "Array",
    "Attribute",
    "Dim",
    "Element",
    "Graph",
    "GraphBuilder",
    "IRError",
    "IngotError",
    "Module",
    "Operation",
    "Operator",
    "ParseError",
    "QuantFormat",
    "QuantizedArray",
    "Rule",
    "ScalarType",
    "StageSpec",
    "TensorType",
    "Value",
    "VerificationError",
    "bind_shape",
    "bind_symbols",
    "dequantize",
    "evaluate",
    "filled",
    "find_format",
    "find_operator",
    "find_stage",
    "find_violations",
    "pack_blocks",
    "page_bytes_of",
    "page_size_of",
    "parse_element",
    "parse_module",
    "print_graph",
    "print_module",
    "quantize",
    "row_bytes_of",
    "unpack_blocks",
    "verify",
]
