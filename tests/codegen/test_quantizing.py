"""Quantizing as users ask for it: calibrated, by a topology, or chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingot.codegen import choosing
from ingot.codegen.calibrating import read_windows
from ingot.codegen.choosing import choose_formats
from ingot.codegen.progress import SilentProgress
from ingot.codegen.quantize_options import Budget, QuantizeOptions
from ingot.frontend import load_model
from ingot.ir.errors import CompileError
from ingot.passes import PipelineOptions, build_pipeline, run_passes

from ..compiled import WHOLE_GROUPS
from ..tiny_models import make_tiny


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the rain in Spain, and then the other thing. " * 30)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quant": "auto"}, "auto needs a bound: size, as '2.5GiB', or kl, as 0.02"),
        ({"quant": "auto", "size": "much"}, "size must be a size in bytes or text such as '2GiB'"),
        ({"quant": "auto", "kl": 0}, "kl must be above zero, not 0"),
        ({"quant": "int4", "kl": 0.1}, "kl is for formats that are chosen: quant must be auto, not int4"),
        ({"quant": "int4", "size": 5}, "size is for formats that are chosen"),
        ({"quant": "none", "method": "hqq"}, "nothing is quantized, so there is nothing to calibrate"),
        ({"quant": "int4", "method": "gptq"}, "gptq looks at what a text makes of a model: give one"),
        ({"quant": "int4", "method": "best"}, "no method 'best' to quantize by; methods: rtn, hqq, imatrix"),
        ({"quant": "int4", "calibration_tokens": 0}, "at least one token, not 0"),
        ({"quant": "int4", "topology": Path("nowhere.yaml")}, "the topology nowhere.yaml cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        QuantizeOptions.parse(**options)


def test_texts_go_with_methods_that_read_them(text: Path) -> None:
    with pytest.raises(CompileError, match="rtn reads no text"):
        QuantizeOptions.parse(quant="int4", method="rtn", calibrate=text)
    with pytest.raises(CompileError, match="auto chooses the formats of all weights, so a topology"):
        QuantizeOptions.parse(quant="auto", size=1, topology=text)
    assert QuantizeOptions.parse(quant="int4", calibrate=text).method == "gptq"
    assert QuantizeOptions.parse(quant="int4").method == "rtn"
    assert QuantizeOptions.parse(quant="auto", size="1KiB").budget == Budget(1024, None)


def test_windows_are_from_all_over_a_text(tmp_path: Path, text: Path) -> None:
    folder = make_tiny("llama", tmp_path)
    whole = read_windows(text, folder, window_tokens=16, most_tokens=10**6)
    assert len({len(window) for window in whole}) == 1
    some = read_windows(text, folder, window_tokens=16, most_tokens=48)
    assert len(some) == 3
    for window, expected in zip(some, [whole[n * len(whole) // 3] for n in range(3)], strict=True):
        np.testing.assert_array_equal(window, expected)
    (short,) = read_windows(text, folder, window_tokens=10**6, most_tokens=1)
    assert len(short) > 16
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(CompileError, match=r"empty\.txt has . tokens; at least two are needed"):
        read_windows(empty, folder, window_tokens=16, most_tokens=48)


def test_chosen_formats_keep_the_bound_and_read_back(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_TOKENS", 32), ("_WINDOW_TOKENS", 16), ("CANDIDATES", ("int3_g32", "int6_g32"))):
        monkeypatch.setattr(choosing, name, value)
    folder = make_tiny("llama", tmp_path, **WHOLE_GROUPS)
    model, pipeline = load_model(folder), PipelineOptions(max_seq_len=64, page_size=4)

    def choose(**budget: Any) -> tuple[set[str], float]:
        """The formats that occur, and bits of a weight in mean."""
        bound = Budget(budget.get("max_bytes"), budget.get("max_divergence"))
        topology, printed = choose_formats(
            model, pipeline, bound, text=text, tokenizer=folder, progress=SilentProgress()
        )
        chosen = tmp_path / "chosen.yaml"
        chosen.write_text(printed)
        again = QuantizeOptions.parse(topology=chosen).assignment
        module = run_passes(model.module, build_pipeline(PipelineOptions(64, assignment=topology))).module
        other = run_passes(model.module, build_pipeline(PipelineOptions(64, assignment=again))).module
        types = [value.type for value in module.forward.parameters if value.type.rank == 2]
        assert types == [value.type for value in other.forward.parameters if value.type.rank == 2]
        bits = [getattr(each.element, "bits_per_element", 32.0) for each in types]
        sizes = [np.prod(each.shape) for each in types]
        return {str(each).partition("[")[0] for each in types}, float(np.average(bits, weights=sizes))

    parameters = sum(int(np.prod(value.type.shape)) for value in model.module.forward.parameters)
    names, bits = choose(max_bytes=int(parameters * 5 / 8))
    assert 3.5 < bits < 5
    assert len(names) > 1
    with pytest.raises(
        CompileError, match="in the smallest formats there are to choose from, and shall take"
    ):
        choose(max_bytes=parameters // 8)
    _, more = choose(max_divergence=1e-4)
    assert bits < more < 32
