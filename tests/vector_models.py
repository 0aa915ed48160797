"""Tiny random models that give vectors, and what ``transformers`` and numpy make of them.

From a test in a folder below, import with ``from ..vector_models import make_embedder``. All dimensions of a
model are different numbers: vocabulary 307, hidden 48, between 80, 3 layers, 6 heads of 8, 70 positions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .tiny_models import make_tiny

__all__ = [
    "ENCODERS",
    "Dense",
    "Embedder",
    "make_embedder",
    "make_encoder",
    "rerank_logits",
    "tiny_encoder_config",
]

Floats = npt.NDArray[np.float32]

ENCODERS = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}
"""Families of encoders, and how their classes in ``transformers`` begin."""

_SIZES: dict[str, Any] = {
    "vocab_size": 307,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 70,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
}
_OF_KIND: dict[str, dict[str, Any]] = {"distilbert": {"hidden_dim": 80}}
_SPECIAL_TOKENS = {300: "[CLS]", 301: "[SEP]", 302: "[PAD]"}
_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_POOLED = {
    "cls": lambda rows: rows[0],
    "mean": lambda rows: rows.mean(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "lasttoken": lambda rows: rows[-1],
}


@dataclass(frozen=True)
class Dense:
    """A dense layer behind the pooling; ``activation`` is the name of a class of torch's."""

    out_features: int
    bias: bool = True
    activation: str = "torch.nn.modules.activation.Tanh"


@dataclass(frozen=True)
class Embedder:
    """A folder as ``sentence-transformers`` writes it."""

    folder: Path
    pooling: str
    layers: tuple[Dense, ...]
    normalize: bool

    def reference(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Vectors ``[sequences, width]``: states by ``transformers``, each alone, and the rest by numpy."""
        import torch
        import transformers
        from safetensors.numpy import load_file

        model = transformers.AutoModel.from_pretrained(self.folder, dtype=torch.float32).eval()
        vectors = []
        for token_ids in sequences:
            with torch.no_grad():
                states = model(torch.tensor([list(token_ids)])).last_hidden_state[0].numpy()
            vector = _POOLED[self.pooling](states)
            for index, layer in enumerate(self.layers):
                weights = load_file(self.folder / f"{index + 2}_Dense" / "model.safetensors")
                vector = weights["linear.weight"] @ vector + weights.get("linear.bias", 0)
                vector = np.tanh(vector) if layer.activation.endswith("Tanh") else vector
            vectors.append(vector / np.linalg.norm(vector) if self.normalize else vector)
        return np.stack(vectors).astype(np.float32)


def make_embedder(
    architecture: str,
    parent: Path,
    *,
    pooling: str = "mean",
    layers: Sequence[Dense] = (),
    normalize: bool = True,
    max_seq_length: int | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
    **model: Any,
) -> Embedder:
    """Make a folder with ``modules.json`` below ``parent``, or return the one made before alike.

    Args:
        architecture: one of :data:`ENCODERS`, or of :data:`.tiny_models.ARCHITECTURES`.
        parent: where folders are made.
        pooling: a mode of ``Pooling``.
        layers: ``Dense`` modules behind it.
        normalize: whether ``Normalize`` comes last.
        max_seq_length: of ``sentence_bert_config.json``.
        prompts: of ``config_sentence_transformers.json``.
        default_prompt: the name of one of them.
        model: further arguments of :func:`make_encoder` or :func:`.tiny_models.make_tiny`.
    """
    described = repr((pooling, layers, normalize, max_seq_length, prompts, default_prompt))
    home = parent / f"embedder-{hashlib.sha256(described.encode()).hexdigest()[:10]}"
    folder = (make_encoder if architecture in ENCODERS else make_tiny)(architecture, home, **model)
    embedder = Embedder(folder, pooling, tuple(layers), normalize)
    if (folder / "modules.json").is_file():
        return embedder
    kinds = ["Transformer", "Pooling", *["Dense"] * len(layers), *["Normalize"] * normalize]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    for module in modules[1:]:
        (folder / str(module["path"])).mkdir()
    flags = {flag: mode == pooling for mode, flag in _FLAGS.items()}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 48, **flags})
    config = json.loads((folder / "config.json").read_text())
    width = config.get("hidden_size") or config["dim"]
    for index, layer in enumerate(layers):
        _write_dense(folder / f"{index + 2}_Dense", width, layer)
        width = layer.out_features
    if max_seq_length is not None:
        _write(
            folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False}
        )
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": dict(prompts or {}), "default_prompt_name": default_prompt},
    )
    _write(folder / "modules.json", modules)
    return embedder


def make_encoder(
    kind: str, parent: Path, *, head: str = "Model", dtype: str = "float32", **overrides: Any
) -> Path:
    """Make a checkpoint of an encoder below ``parent``, or return the one made before alike.

    Args:
        kind: one of :data:`ENCODERS`.
        parent: where folders are made.
        head: how the name of its class ends: ``Model``, ``ForMaskedLM`` or ``ForSequenceClassification``.
        dtype: of the weights on disk.
        overrides: fields of its configuration class.
    """
    import torch
    import transformers

    sizes = _sizes_of(kind, overrides)
    described = json.dumps([kind, head, dtype, sizes], sort_keys=True)
    folder = parent / f"tiny-{kind}-{hashlib.sha256(described.encode()).hexdigest()[:10]}"
    if (folder / "config.json").is_file():
        return folder
    name = ENCODERS[kind]
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}{head}")(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in label or "layer_norm.weight" in label:
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(noise * (0.3 if parameter.dim() == 1 else 0.15))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def tiny_encoder_config(kind: str, **overrides: Any) -> dict[str, Any]:
    """What ``config.json`` says of a checkpoint of :func:`make_encoder`, which need not be made for that."""
    import transformers

    name = ENCODERS[kind]
    config = getattr(transformers, f"{name}Config")(**_sizes_of(kind, overrides))
    return {**config.to_dict(), "architectures": [f"{name}Model"]}


def _sizes_of(kind: str, overrides: dict[str, Any]) -> dict[str, Any]:
    pad = 1 if "roberta" in kind else 0
    return {**_SIZES, "pad_token_id": pad, **_OF_KIND.get(kind, {}), **overrides}


def rerank_logits(folder: Path, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Floats:
    """Logits of pairs ``(token ids, token types)`` by ``transformers``, each alone."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    last_type = model.config.type_vocab_size - 1
    with torch.no_grad():
        logits = [
            model.eval()(
                torch.tensor([list(ids)]), token_type_ids=torch.tensor([list(types)]).clamp(max=last_type)
            ).logits
            for ids, types in pairs
        ]
    return np.asarray(torch.cat(logits)[:, 0].numpy(), np.float32)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2))


def _write_dense(folder: Path, width: int, layer: Dense) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(width)
    weights = {"linear.weight": random.standard_normal((layer.out_features, width)).astype(np.float32) * 0.3}
    if layer.bias:
        weights["linear.bias"] = random.standard_normal(layer.out_features).astype(np.float32) * 0.3
    save_file(weights, folder / "model.safetensors")
    _write(
        folder / "config.json",
        {
            "in_features": width,
            "out_features": layer.out_features,
            "bias": layer.bias,
            "activation_function": layer.activation,
        },
    )


def _write_tokenizer(folder: Path) -> None:
    """Byte-level BPE with [CLS] before and [SEP] behind; the types of tokens tell two texts apart."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"[unused {number}]" for number in range(300 - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL_TOKENS.values()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 300), ("[SEP]", 301)],
    )
    tokenizer.enable_padding(length=30)  # as checkpoints carry it: it must not take effect
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json", {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    )
