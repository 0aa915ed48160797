import subprocess
import sys

import pytest
from ingot import runtime

HEAVY = ("fastapi", "pydantic", "transformers", "torch", "tvm", "uvicorn", "jinja2", "tokenizers")


def _loaded(code: str) -> set[str]:
    report = f"import sys; {code}; print(*(name for name in {HEAVY} + ('numpy',) if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import ingot.runtime") == set()


def test_importing_the_engine_loads_only_numpy() -> None:
    assert _loaded("from ingot.runtime import AsyncEngine, Engine, SamplingParams, Tokenizer") == {"numpy"}


def test_the_public_names_are_pinned_and_there() -> None:
    assert runtime.__all__ == [
        "AsyncEngine",
        "Chunk",
        "Completion",
        "Engine",
        "FinishReason",
        "ModelInfo",
        "RequestOutput",
        "SamplingParams",
        "TokenLogprob",
        "Tokenizer",
        "Usage",
    ]
    assert all(getattr(runtime, name) is not None for name in runtime.__all__)
    assert dir(runtime) == runtime.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = runtime.nothing
