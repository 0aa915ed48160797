"""A shape by llama.cpp's CUDA backend: ``with_llama_cpp.py CONFIG.json [--dry]``.

``llama.cpp`` beside ``run`` holds ``llama-batched-bench``, or the source, which is built (that takes minutes)
into ``llama.cpp/build``. The file it reads is written here, with random weights: of bfloat16, and in Q4_0.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "llama.cpp"
TOOL = "llama-batched-bench"
DRY = "--dry" in sys.argv
LENGTHS = ["-npp", "4", "-ntg", "2", "-npl", "1,2"] if DRY else ["-npp", "512", "-ntg", "128", "-npl", "1,64"]
SOME = 1 << 22


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    if config["model_type"] != "llama":
        sys.exit(f"files are written of llama's form only, not of {config['model_type']}")
    tool = find_tool()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("BF16", "Q4_0"):
            path = Path(folder) / f"{kind}.gguf"
            write_model(path, config, gguf.GGMLQuantizationType[kind])
            for line in measured(tool, path):
                run = {"concurrency": line["pl"], "prompt_tokens": line["pp"], "quant": kind}
                runs.append({**run, "prefill_tok_s": line["speed_pp"], "decode_tok_s": line["speed_tg"]})
    print(json.dumps({"runs": runs}))


def find_tool() -> Path:
    found = sorted(SOURCE.rglob(TOOL)) if SOURCE.is_dir() else []
    if not found:
        if not (SOURCE / "CMakeLists.txt").is_file():
            sys.exit(f"there is neither {TOOL} nor a source in {SOURCE}")
        build()
        found = sorted(SOURCE.rglob(TOOL))
    return found[0]


def build() -> None:
    from ingot.targets import find_gpus

    architecture = find_gpus()[0].architecture.removeprefix("sm_")
    settings = {
        "GGML_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": architecture,
        "CMAKE_BUILD_TYPE": "Release",
        "LLAMA_CURL": "OFF",
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_SERVER": "OFF",
    }
    given = [f"-D{name}={value}" for name, value in settings.items()]
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    where = str(SOURCE / "build")
    said = {"check": True, "stdout": sys.stderr}
    subprocess.run(["cmake", "-S", str(SOURCE), "-B", where, *generator, *given], **said)
    subprocess.run(["cmake", "--build", where, "--target", TOOL, "-j", str(os.cpu_count())], **said)


def measured(tool: Path, path: Path) -> list[dict[str, float]]:
    """What it prints, a line for each number of requests; how flash attention is asked for differs."""
    context = "64" if DRY else str(64 * (512 + 128))
    command = [str(tool), "-m", str(path), "-c", context, "-b", "2048", "-ub", "512", "-ngl", "99", *LENGTHS]
    for attention in (["-fa", "on"], ["-fa"]):
        done = subprocess.run(
            [*command, *attention, "--output-format", "jsonl"], capture_output=True, text=True, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if lines:
            return lines
    sys.exit(f"{TOOL} failed: {done.stderr[-2000:]}")


def write_model(path: Path, config: dict, kind: gguf.GGMLQuantizationType) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    kv_heads, dim = config["num_key_value_heads"], config.get("head_dim") or width // heads
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(float(config.get("rope_theta") or config["rope_parameters"]["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("no_vocab")
    layer = {
        "attn_q": (heads * dim, width),
        "attn_k": (kv_heads * dim, width),
        "attn_v": (kv_heads * dim, width),
        "attn_output": (width, heads * dim),
        "ffn_gate": (config["intermediate_size"], width),
        "ffn_up": (config["intermediate_size"], width),
        "ffn_down": (width, config["intermediate_size"]),
    }
    tables = ["token_embd"] if config.get("tie_word_embeddings") else ["token_embd", "output"]
    matrices = dict.fromkeys(tables, (config["vocab_size"], width))
    norms = ["output_norm"]
    for number in range(config["num_hidden_layers"]):
        matrices |= {f"blk.{number}.{name}": shape for name, shape in layer.items()}
        norms += [f"blk.{number}.attn_norm", f"blk.{number}.ffn_norm"]
    for name, (rows, columns) in matrices.items():
        writer.add_tensor(f"{name}.weight", random_rows(rows, columns, kind), raw_dtype=kind)
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_rows(rows: int, columns: int, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """As they lie in files: bfloat16 as words, Q4_0 as blocks of a scale and 16 bytes."""
    floats = np.random.default_rng(0).standard_normal(SOME, np.float32) * np.float32(0.02)
    if kind is gguf.GGMLQuantizationType.BF16:
        some = (floats.view(np.uint32) >> 16).astype(np.uint16)
        return np.resize(some, (rows, columns)).view(np.uint8)
    blocks = np.random.default_rng(0).integers(0, 256, (SOME // 32, 18), np.uint8)
    blocks[:, :2] = np.full((len(blocks), 1), 0.005, np.float16).view(np.uint8)
    return np.resize(blocks, (rows, columns // 32, 18)).reshape(rows, -1)


main()
