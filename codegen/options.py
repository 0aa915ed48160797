"""What a user chooses when compiling, checked before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..ir import ScalarType
from ..ir.errors import CompileError
from ..passes import CacheType
from ..targets import AnyTarget, parse_targets
from .quantize_options import QuantizeOptions

__all__ = ["CompileOptions", "parse_built_for"]

_BACKENDS = ("tvm", "onnx")
_PAGE_SIZES = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """The options of :func:`.compiler.compile_model`, made sense of.

    ``weight_type`` None keeps the checkpoint's, ``max_seq_len`` None is what the model was made for,
    ``page_size`` None what its layers want, ``kv_cache`` None what goes with the weights; ``dtype`` is a word
    for the manifest.
    """

    targets: tuple[AnyTarget, ...]
    quantizing: QuantizeOptions
    dtype: str
    weight_type: ScalarType | None
    max_seq_len: int | None
    page_size: int | None
    kv_cache: CacheType | None
    verify: bool
    dump_ir: Path | None
    backend: str = "tvm"
    tune_seconds: float | None = None

    @classmethod
    def parse(
        cls,
        *,
        targets: Sequence[str],
        quantizing: QuantizeOptions,
        dtype: str,
        backend: str,
        max_seq_len: int | None,
        page_size: int | None,
        kv_cache: str,
        verify: bool,
        dump_ir: Path | None,
        tune: float | None = None,
    ) -> CompileOptions:
        """Raises :class:`CompileError` naming the option that is wrong and what it can be."""
        built_for = parse_built_for(targets)
        if backend not in _BACKENDS:
            raise CompileError(f"no backend '{backend}'; backends: {', '.join(_BACKENDS)}")
        if backend == "onnx":
            _check_onnx(targets, kv_cache)
        if page_size is not None and page_size not in _PAGE_SIZES:
            sizes = ", ".join(map(str, _PAGE_SIZES))
            raise CompileError(f"a page holds one of {sizes} tokens, not {page_size}")
        if tune is not None and (backend != "tvm" or not tune > 0):
            raise CompileError("tuning takes a number of seconds above 0, and the TVM backend")
        if max_seq_len is not None and max_seq_len < 1:
            raise CompileError(f"max_seq_len must be at least 1, not {max_seq_len}")
        return cls(
            targets=built_for,
            quantizing=quantizing,
            dtype=dtype,
            weight_type=_parse_dtype(dtype),
            max_seq_len=max_seq_len,
            page_size=page_size,
            kv_cache=_parse_kv_cache(kv_cache),
            verify=verify,
            dump_ir=dump_ir,
            backend=backend,
            tune_seconds=tune,
        )


def _check_onnx(targets: Sequence[str], kv_cache: str) -> None:
    """Raise :class:`CompileError` for what goes with machine code alone."""
    if find_spec("onnx") is None:
        raise CompileError(
            "backend onnx needs the package onnx: pip install '.[onnx]' in ingot's repository brings it"
        )
    if list(targets) != ["cpu"]:
        raise CompileError(
            f"backend onnx makes a graph for any machine, none for {', '.join(targets)}: leave targets away"
        )
    if kv_cache == CacheType.BFLOAT16.value:
        raise CompileError(
            "backend onnx keeps keys and values as float32, float16, int8 or int4, not bfloat16"
        )


def parse_built_for(targets: Sequence[str]) -> tuple[AnyTarget, ...]:
    """What is built for targets as they are written; raises :class:`CompileError` where there is none."""
    texts = [targets] if isinstance(targets, str) else targets
    built_for = tuple(dict.fromkeys(target for text in texts for target in parse_targets(text)))
    if not built_for:
        raise CompileError("no target to build for; 'cpu' is this host")
    return built_for


def _parse_kv_cache(text: str) -> CacheType | None:
    choices = {kind.value: kind for kind in CacheType}
    if text != "auto" and text not in choices:
        raise CompileError(f"no KV cache of '{text}'; there are auto, {', '.join(choices)}")
    return choices.get(text)


def _parse_dtype(dtype: str) -> ScalarType | None:
    choices = {kind.value: kind for kind in ScalarType if kind.is_float}
    if dtype != "auto" and dtype not in choices:
        raise CompileError(f"no dtype '{dtype}'; dtypes: auto, {', '.join(choices)}")
    return choices.get(dtype)
