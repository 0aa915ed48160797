"""The names that other rooms build on."""

import ingot.ir

NAMES = """
FORMATS OPERATORS STAGES Array Attribute Dim Element Graph GraphBuilder IRError IngotError Module Operation
Operator ParseError QuantFormat QuantizedArray Rule ScalarType StageSpec TensorType Value VerificationError
bind_shape bind_symbols dequantize evaluate filled find_format find_operator find_stage find_violations
pack_blocks page_bytes_of page_size_of parse_element parse_module print_graph print_module quantize
row_bytes_of unpack_blocks verify
"""


def test_public_names() -> None:
    assert sorted(ingot.ir.__all__) == sorted(NAMES.split())
    assert all(hasattr(ingot.ir, name) for name in ingot.ir.__all__)
