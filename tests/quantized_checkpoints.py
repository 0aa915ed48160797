"""Quantized checkpoints as each library saves them, and the values that its own formula gives.

Packing follows the libraries' loops, number by number, and so differs from how ingot reads. From a test in a
folder below, import with ``from ..quantized_checkpoints import quantize_folder``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from ingot.frontend.weights import open_weights

from .frontend.tiny_folder import safetensors_bytes

__all__ = ["LAYOUTS", "Layout", "Stored", "quantize_experts", "quantize_folder", "write_matrix"]

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)

NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
        *(0.7229568362236023, 1.0),
    ],
    np.float32,
)


BNB_FP4 = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3, -0.0, -0.0625, -8, -12, -4, -6, -2, -3], np.float32) / 12


@dataclass(frozen=True)
class Stored:
    """A matrix as it is saved: tensors by what follows the module's name, and its values."""

    tensors: Tensors
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """What ``quantization_config`` says, and how a matrix ``[outputs, inputs]`` is saved."""

    config: Mapping[str, Any]
    store: Callable[[npt.NDArray[np.float32]], Stored]


def pack_along_first(numbers: Array, bits: int) -> Array:
    """Numbers ``[n, m]`` in int32 words ``[n * bits / 32, m]``, bit by bit."""
    words = np.zeros((-(-len(numbers) * bits // 32), numbers.shape[1]), np.uint32)
    for index, row in enumerate(numbers.astype(np.uint32)):
        for bit in range(bits):
            place = index * bits + bit
            words[place // 32] |= (row >> np.uint32(bit) & np.uint32(1)) << np.uint32(place % 32)
    return words.view(np.int32)


def in_groups(weight: Array, size: int) -> Array:
    return weight.reshape(len(weight), -1, size)


def round_to_integers(
    weight: Array, bits: int, size: int, *, symmetric: bool, dtype: Any = np.float16
) -> tuple[Array, Array, Array]:
    """Codes from 0 on ``[outputs, inputs]``, scales and whole zero points ``[outputs, groups]``."""
    groups, most = in_groups(weight, size), (1 << bits) - 1
    low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    if symmetric:
        scales = (2 * np.maximum(-low, high) / most).astype(dtype)
        zeros = np.full(scales.shape, (most + 1) // 2, np.int64)
    else:
        scales = ((high - low) / most).astype(dtype)
        zeros = np.rint(-low / scales.astype(np.float32)).astype(np.int64).clip(0, most)
        zeros[0, :3] = (0, most, 1)[: zeros.shape[1]]  # what is rare and easily wrong
    wide = scales.astype(np.float32)[..., None]
    codes = np.clip(np.rint(groups / wide) + zeros[..., None], 0, most)
    return codes.reshape(weight.shape).astype(np.uint8), scales, zeros


def from_integers(codes: Array, scales: Array, zeros: Array, size: int) -> npt.NDArray[np.float32]:
    distance = in_groups(codes.astype(np.float32), size) - zeros.astype(np.float32)[..., None]
    return (distance * scales.astype(np.float32)[..., None]).reshape(codes.shape)


def gptq(bits: int, *, symmetric: bool, act_order: bool = False, version: int = 1) -> Layout:
    """As GPTQModel: version 1 is saved by taking a one in each zero point from whole words."""
    size = 32

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        inputs = weight.shape[1]
        groups = np.arange(inputs) // size
        if act_order:
            groups = np.random.default_rng(inputs).permutation(groups)
        order = np.argsort(groups, kind="stable")
        codes, scales, zeros = round_to_integers(weight[:, order], bits, size, symmetric=symmetric)
        values = np.empty_like(weight)
        values[:, order] = from_integers(codes, scales, zeros, size)
        unordered = np.empty_like(codes)
        unordered[:, order] = codes
        packed_zeros = np.ascontiguousarray(pack_along_first(zeros, bits).T)
        if version == 1:
            ones = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}
            if bits in ones:
                packed_zeros = (packed_zeros.view(np.uint32) - np.uint32(ones[bits])).view(np.int32)
            else:
                less = (zeros - 1) % (1 << bits)
                packed_zeros = np.ascontiguousarray(pack_along_first(less, bits).T)
        tensors: Tensors = {
            "qweight": pack_along_first(unordered.T, bits),
            "qzeros": packed_zeros,
            "scales": np.ascontiguousarray(scales.T),
            "g_idx": groups.astype(np.int32),
        }
        return Stored(tensors, values)

    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": size,
        "desc_act": act_order,
        "sym": symmetric,
        "checkpoint_format": "gptq" if version == 1 else "gptq_v2",
    }
    return Layout(config, store)


def awq(version: str) -> Layout:
    """As AutoAWQ's ``WQLinear_GEMM`` and ``WQLinear_GEMV``."""
    size, places = 32, (0, 2, 4, 6, 1, 3, 5, 7) if version == "gemm" else tuple(range(8))

    def words(numbers: Array) -> Array:
        """Numbers ``[rows, n]`` packed along the second dimension."""
        packed = np.zeros((len(numbers), -(-numbers.shape[1] // 8)), np.uint32)
        for column in range(packed.shape[1]):
            for index, place in enumerate(places):
                if column * 8 + place < numbers.shape[1]:
                    number = numbers[:, column * 8 + place].astype(np.uint32)
                    packed[:, column] |= number << np.uint32(4 * index)
        return packed.view(np.int32)

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        codes, scales, zeros = round_to_integers(weight, 4, size, symmetric=False)
        values = from_integers(codes, scales, zeros, size)
        if version == "gemm":
            tensors = {"qweight": words(codes.T), "qzeros": words(zeros.T), "scales": scales.T}
        else:
            num_words = (zeros.shape[1] + 31) // 32 * 4
            filled = np.zeros((len(zeros), num_words * 8), np.int64)
            filled[:, : zeros.shape[1]] = zeros
            factors = np.zeros(filled.shape, np.float16)
            factors[:, : zeros.shape[1]] = scales
            tensors = {"qweight": words(codes), "qzeros": words(filled), "scales": factors}
        return Stored({name: np.ascontiguousarray(array) for name, array in tensors.items()}, values)

    config = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": size,
        "zero_point": True,
        "version": version,
        "modules_to_not_convert": None,
    }
    return Layout(config, store)


def float8(block: tuple[int, int] | None, *, method: str = "fp8", dtype: Any = np.float32) -> Layout:
    """Blocks of outputs and inputs; None is a scale for each output."""
    part = "weight_scale_inv" if method == "fp8" else "weight_scale"

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        outputs, inputs = weight.shape
        high, wide = block or (1, inputs)
        scales = np.empty((-(-outputs // high), -(-inputs // wide)), np.float32)
        spread = np.empty_like(weight)
        for row in range(scales.shape[0]):
            for column in range(scales.shape[1]):
                at = slice(row * high, (row + 1) * high), slice(column * wide, (column + 1) * wide)
                scales[row, column] = np.abs(weight[at]).max() / 448
                scales[row, column] = scales[row, column].astype(dtype)
                spread[at] = scales[row, column]
        codes = (weight / spread).astype(ml_dtypes.float8_e4m3fn)
        tensors: Tensors = {"weight": codes, part: scales.astype(dtype)}
        if method == "fp8":
            tensors["activation_scale"] = np.array(0.5, np.float32)
        return Stored(tensors, codes.astype(np.float32) * spread)

    config: dict[str, Any] = {"quant_method": method, "activation_scheme": "static"}
    if block is not None:
        config["weight_block_size"] = list(block)
    return Layout(config, store)


def bnb4(kind: str, *, nested: bool) -> Layout:
    """As ``bitsandbytes`` saves ``Linear4bit``: blocks go on over the ends of rows."""
    size, nested_size, values = 64, 256, NF4 if kind == "nf4" else BNB_FP4

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        blocks = weight.reshape(-1, size)
        maxima = np.abs(blocks).max(-1)
        state: dict[str, Any] = {"quant_type": kind, "blocksize": size, "dtype": "float32"}
        state["shape"] = list(weight.shape)
        tensors: Tensors = {"weight.quant_map": values}
        if nested:
            table = np.tanh(np.linspace(-2, 2, 256)).astype(np.float32)
            offset = float(maxima.mean())
            filled = np.zeros(-(-len(maxima) // nested_size) * nested_size, np.float32)
            filled[: len(maxima)] = maxima - np.float32(offset)
            of_blocks = np.abs(filled.reshape(-1, nested_size)).max(-1)
            factors = np.repeat(of_blocks, nested_size)[: len(maxima)]
            codes = np.abs(table - (filled[: len(maxima)] / factors)[:, None]).argmin(-1).astype(np.uint8)
            maxima = table[codes] * factors + np.float32(offset)
            tensors |= {"weight.absmax": codes, "weight.nested_absmax": of_blocks}
            tensors["weight.nested_quant_map"] = table
            state |= {"nested_blocksize": nested_size, "nested_dtype": "float32", "nested_offset": offset}
        else:
            tensors["weight.absmax"] = maxima
        places = np.abs(values - (blocks / maxima[:, None])[..., None]).argmin(-1).astype(np.uint8)
        flat = places.reshape(-1)
        tensors["weight"] = (flat[0::2] << np.uint8(4) | flat[1::2])[:, None]
        tensors["weight.quant_state.bitsandbytes__" + kind] = np.frombuffer(
            json.dumps(state).encode(), np.uint8
        )
        return Stored(tensors, (values[places] * maxima[:, None]).reshape(weight.shape))

    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    return Layout(config, store)


def llm_int8() -> Layout:
    """As ``bitsandbytes`` saves ``Linear8bitLt``."""

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        maxima = np.abs(weight).max(-1)
        codes = np.rint(weight * (127 / maxima[:, None])).astype(np.int8)
        tensors: Tensors = {"weight": codes, "SCB": maxima, "weight_format": np.array(0, np.uint8)}
        # The library multiplies codes by maxima first, which may differ in the last bit.
        return Stored(
            tensors, codes.astype(np.float32) * (maxima * np.float32(7.874015718698502e-3))[:, None]
        )

    return Layout({"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, store)


def hqq(bits: int) -> Layout:
    """As ``HQQLinear.state_dict`` has it, groups along the inputs."""
    size = 32
    packing = {8: "8bit_u8", 4: "4bit_u8", 3: "3bit_32", 2: "2bit_u8"}[bits]
    per_place = {8: 1, 4: 2, 3: 10, 2: 4}[bits]

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        groups, most = weight.reshape(-1, size), (1 << bits) - 1
        low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
        scales = ((high - low) / most).astype(np.float16)
        zeros = (-low / scales.astype(np.float32)).astype(np.float16)
        wide_scales, wide_zeros = scales.astype(np.float32), zeros.astype(np.float32)
        codes = np.clip(np.rint(groups / wide_scales + wide_zeros), 0, most)
        values = ((codes.astype(np.float32) - wide_zeros) * wide_scales).reshape(weight.shape)
        rows = -(-len(codes) // per_place)
        filled = np.zeros((rows * per_place, size), np.int64)
        filled[: len(codes)] = codes
        packed = sum(
            filled[index * rows : (index + 1) * rows] << (bits * (per_place - 1 - index))
            for index in range(per_place)
        )
        tensors: Tensors = {
            "W_q": np.asarray(packed).astype(np.int32 if bits == 3 else np.uint8),
            "scale": scales,
            "zero": zeros,
            "nbits": np.array(bits, np.int32),
            "group_size": np.array(size, np.int32),
            "axis": np.array(1, np.int32),
            "shape": np.array(weight.shape, np.int64),
            "packing": np.frombuffer(packing.encode(), np.uint8),
            "view_as_float": np.array(0, np.uint8),
            "encoded_state_dict": np.array(1, np.uint8),
        }
        return Stored(tensors, values)

    return Layout({"quant_method": "hqq", "quant_config": {}, "skip_modules": ["lm_head"]}, store)


def compressed(layout: str, **weights: Any) -> Layout:
    """As ``compressed-tensors`` saves each of its formats."""
    bits, size = weights["num_bits"], weights.get("group_size", -1)
    symmetric = weights.get("symmetric", True)

    def store(weight: npt.NDArray[np.float32]) -> Stored:
        if weights["type"] == "float":
            return _store_small_floats(weight, layout, size) if bits == 4 else _store_float8(weight, weights)
        groups, inputs = weight.shape[1] if size == -1 else size, weight.shape[1]
        group_of = np.arange(inputs, dtype=np.int32) // groups
        if weights.get("actorder") == "group":
            group_of = np.random.default_rng(inputs).permutation(group_of)
        order = np.argsort(group_of, kind="stable")
        ordered, scales, zeros = round_to_integers(
            weight[:, order], bits, groups, symmetric=symmetric, dtype=ml_dtypes.bfloat16
        )
        codes, values = np.empty_like(ordered), np.empty_like(weight)
        codes[:, order] = ordered
        values[:, order] = from_integers(ordered, scales, zeros, groups)
        tensors: Tensors = {"weight_scale": scales}
        if "actorder" in weights:
            tensors["weight_g_idx"] = group_of
        half = 1 << (bits - 1)
        if layout == "pack-quantized":
            tensors["weight_packed"] = np.ascontiguousarray(pack_along_first(codes.T, bits).T)
            tensors["weight_shape"] = np.array(weight.shape, np.int64)
            if not symmetric:
                tensors["weight_zero_point"] = pack_along_first(zeros, bits)
        else:
            tensors["weight"] = (codes.astype(np.int64) - half).astype(np.int8)
            if not symmetric:
                tensors["weight_zero_point"] = (zeros - half).astype(np.int8)
        return Stored(tensors, values)

    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    config = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }
    return Layout(config, store)


def _store_float8(weight: npt.NDArray[np.float32], weights: Mapping[str, Any]) -> Stored:
    if weights.get("group_size") is not None:  # mxfp8: a power of two for 32 neighbours
        groups = in_groups(weight, weights["group_size"])
        powers = (np.floor(np.log2(np.abs(groups).max(-1))) - 8 + 127).astype(np.uint8)
        scales = np.exp2(powers.astype(np.float32) - 127)[..., None]
        codes = (groups / scales).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn)
        values = (codes.astype(np.float32) * scales).reshape(weight.shape)
        return Stored({"weight": codes.reshape(weight.shape), "weight_scale": powers}, values)
    scale = (np.abs(weight).max() / 448).astype(np.float32).reshape(1)
    codes = (weight / scale).astype(ml_dtypes.float8_e4m3fn)
    return Stored({"weight": codes, "weight_scale": scale}, codes.astype(np.float32) * scale)


def _store_small_floats(weight: npt.NDArray[np.float32], layout: str, size: int) -> Stored:
    groups = in_groups(weight, size)
    maxima = np.abs(groups).max(-1)
    tensors: Tensors = {}
    if layout.startswith("nvfp4"):
        whole = np.array([448 * 6 / np.abs(weight).max()], np.float32)
        stored = (maxima / 6 * whole).astype(ml_dtypes.float8_e4m3fn)
        tensors |= {"weight_scale": stored, "weight_global_scale": whole}
        scales = stored.astype(np.float32) * (np.float32(1) / whole)
    else:
        powers = (np.floor(np.log2(maxima)) - 2 + 127).astype(np.uint8)
        tensors["weight_scale"] = powers
        scales = np.exp2(powers.astype(np.float32) - 127)
    codes = np.abs(E2M1 - (groups / scales[..., None])[..., None]).argmin(-1).astype(np.uint8)
    tensors["weight_packed"] = pair_nibbles(codes.reshape(weight.shape))
    return Stored(tensors, (E2M1[codes] * scales[..., None]).reshape(weight.shape))


def pair_nibbles(codes: Array) -> Array:
    """Two codes a byte, the first in its low half."""
    result: Array = codes[..., 0::2] | codes[..., 1::2] << np.uint8(4)
    return result


LAYOUTS: Mapping[str, Layout] = {
    "gptq 4 bits": gptq(4, symmetric=True),
    "gptq 4 bits, zero points": gptq(4, symmetric=False),
    "gptq 4 bits, act-order": gptq(4, symmetric=True, act_order=True),
    "gptq 4 bits, version 2": gptq(4, symmetric=False, version=2),
    "gptq 2 bits": gptq(2, symmetric=False),
    "gptq 3 bits": gptq(3, symmetric=False, act_order=True),
    "gptq 8 bits": gptq(8, symmetric=False),
    "awq gemm": awq("gemm"),
    "awq gemv": awq("gemv"),
    "fp8 blocks": float8((48, 64)),
    "fp8 tensor": float8((1 << 20, 1 << 20)),
    "fbgemm rows": float8(None, method="fbgemm_fp8"),
    "bnb nf4": bnb4("nf4", nested=False),
    "bnb nf4 nested": bnb4("nf4", nested=True),
    "bnb fp4": bnb4("fp4", nested=False),
    "bnb int8": llm_int8(),
    "hqq 4 bits": hqq(4),
    "hqq 3 bits": hqq(3),
    "hqq 2 bits": hqq(2),
    "hqq 8 bits": hqq(8),
    "ct packed": compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32),
    "ct packed, zero points": compressed(
        "pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, symmetric=False
    ),
    "ct packed, act-order": compressed(
        "pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, actorder="group"
    ),
    "ct packed, 5 bits": compressed("pack-quantized", num_bits=5, type="int", strategy="channel"),
    "ct int8": compressed("int-quantized", num_bits=8, type="int", strategy="channel"),
    "ct int8, zero points": compressed(
        "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=False
    ),
    "ct fp8": compressed("float-quantized", num_bits=8, type="float", strategy="tensor"),
    "ct mxfp8": compressed("mxfp8-quantized", num_bits=8, type="float", strategy="group", group_size=32),
    "ct nvfp4": compressed(
        "nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16
    ),
    "ct mxfp4": compressed("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32),
}
"""Every way of saving a matrix that is read, by a name for tests."""


def write_matrix(
    folder: Path, layout: Layout, weight: npt.NDArray[np.float32], module: str = "layer"
) -> Stored:
    """A checkpoint of one quantized matrix, without a model."""
    stored = layout.store(weight)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{module}.{part}": array for part, array in stored.tensors.items()}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    return stored


def quantize_folder(source: Path, parent: Path, name: str) -> tuple[Path, Path]:
    """A model with its linears saved as ``name`` says, and the same with their values in float32.

    Routers, embeddings and the head stay as they are.
    """
    layout = LAYOUTS[name]
    label = f"{source.name}-{name.replace(', ', '-').replace(' ', '-')}"
    quantized, plain = parent / label, parent / f"{label}-values"
    if quantized.is_dir():
        return quantized, plain
    for folder in (quantized, plain):
        shutil.copytree(source, folder)
    weights = open_weights(source)
    packed: Tensors = {}
    values: Tensors = {}
    for tensor in weights.names:
        array = np.asarray(weights.read(tensor))
        packed[tensor] = values[tensor] = array
        if tensor.endswith("_proj.weight") and array.ndim == 2:
            stored = layout.store(array.astype(np.float32))
            del packed[tensor]
            module = tensor.removesuffix(".weight")
            packed |= {f"{module}.{part}": each for part, each in stored.tensors.items()}
            values[tensor] = stored.values
    (quantized / "model.safetensors").write_bytes(safetensors_bytes(packed))
    (plain / "model.safetensors").write_bytes(safetensors_bytes(values))
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = dict(layout.config)
    (quantized / "config.json").write_text(json.dumps(config))
    return quantized, plain


def quantize_experts(folder: Path) -> None:
    """Keep the experts of a gpt-oss model in MXFP4, as OpenAI published it: outputs before inputs."""
    weights = open_weights(folder)
    tensors: Tensors = {}
    for name in weights.names:
        array = np.asarray(weights.read(name))
        if not name.endswith(("gate_up_proj", "down_proj")):
            tensors[name] = array
            continue
        groups = array.transpose(0, 2, 1).astype(np.float32)
        groups = groups.reshape(*groups.shape[:2], -1, 32)
        powers = np.floor(np.log2(np.abs(groups).max(-1))) - 2
        scaled = groups / np.exp2(powers)[..., None]
        codes = np.abs(E2M1 - scaled[..., None]).argmin(-1).astype(np.uint8)
        tensors[f"{name}_blocks"] = pair_nibbles(codes)
        tensors[f"{name}_scales"] = (powers + 127).astype(np.uint8)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    config = json.loads((folder / "config.json").read_text())
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": skipped}
    (folder / "config.json").write_text(json.dumps(config))
