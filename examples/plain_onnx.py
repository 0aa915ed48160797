"""A model compiled with ``--backend onnx``, run with onnxruntime alone: ``plain_onnx.py ARTIFACT PROMPT``."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

folder, prompt = Path(sys.argv[1]), sys.argv[2]
tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
session = ort.InferenceSession(folder / "onnx" / "step.onnx", providers=["CPUExecutionProvider"])

# One sequence, whose pages are 0, 1, 2, ...; an answer of 16 tokens.
tokens = tokenizer.encode(prompt).ids
caches = {i.name: i for i in session.get_inputs() if i.name.startswith("kv.")}
page_size = next(iter(caches.values())).shape[2]
num_pages = -(-(len(tokens) + 16) // page_size)
kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
kinds["tensor(uint8)"] = np.uint8
states = {name: np.zeros([num_pages, *i.shape[1:]], kinds[i.type]) for name, i in caches.items()}
chunk, done = tokens, 0
for _ in range(16):
    places = np.arange(done, done + len(chunk), dtype=np.int32)
    batch = {
        "token_ids": np.array(chunk, np.int32),
        "positions": places,
        "slots": places,
        "sequence_starts": np.array([0, len(chunk)], np.int32),
        "context_lengths": np.array([done + len(chunk)], np.int32),
        "page_table": np.arange(num_pages, dtype=np.int32)[None],
        "logit_rows": np.array([len(chunk) - 1], np.int32),
    }
    logits, *written = session.run(None, {**batch, **states})
    states = dict(zip(states, written, strict=True))
    done, chunk = done + len(chunk), [int(logits[0].argmax())]
    tokens = tokens + chunk
print(tokenizer.decode(tokens))
