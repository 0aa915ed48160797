"""The tables and plots of ``docs/performance.md``, from what ``performance.py`` measured.

The page is written by hand, but for what stands between ``<!-- NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import svg

__all__ = ["DOCUMENT", "PARTS_OF_PAGE", "blocks_of", "write_page"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"

PARTS_OF_PAGE = (
    *("int4-alone", "int4-together", "bfloat16-alone", "bfloat16-together", "avx2-alone", "avx2-together"),
    *("context", "context-kv8", "peers-alone", "peers-together"),
)

_OURS = {"int4": "ingot int4", "bfloat16": "ingot bfloat16", "avx2": "ingot int4, AVX2 only"}

Found = Mapping[str, Any]


def write_page(work: Path) -> None:
    """Fill in the page and draw its plots with what lies in ``work``; what is missing stays as it was."""
    found = {
        name: json.loads((work / f"{name}.json").read_text())
        for name in PARTS_OF_PAGE
        if (work / f"{name}.json").is_file()
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in blocks_of(found).items():
        text, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda marks, block=block: f"{marks[1]}\n{block}\n\n{marks[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"{DOCUMENT} has {count} places for '{name}' where one is expected")
    DOCUMENT.write_text(text, encoding="utf-8")
    for name, drawing in _plots(found).items():
        (DOCUMENT.parent / f"{name}.svg").write_text(drawing, encoding="utf-8")


def blocks_of(found: Found) -> dict[str, str]:
    """Markdown for each place of the page that there is something for."""
    blocks: dict[str, str] = {}
    if "int4-alone" in found:
        blocks["host"] = _host(found["int4-alone"])
    if any(f"{kind}-alone" in found for kind in _OURS):
        blocks["rates"] = _table(
            ("", "prefill 512, tok/s", "of limit", "decode, tok/s", "of limit", "16 at once, output tok/s"),
            _rates(found),
        )
    for kind in _OURS:
        steps = [
            step
            for name in (f"{kind}-alone", f"{kind}-together")
            for step in found.get(name, {}).get("profile", ())
            if not (name.endswith("together") and step["phase"] == "prefill")
        ]
        if steps:
            blocks[f"profile {kind}"] = "\n\n".join(map(_profile, steps))
    if "context" in found:
        heads = ("context", "float16 cache: ms", "of which attention", "limit", "times the limit")
        more = ("int8 cache: ms", "limit", "times the limit") if "context-kv8" in found else ()
        blocks["context"] = _table((*heads, *more), _contexts(found))
    if "peers-alone" in found:
        heads = ("", "prefill 512", "", "decode", "", "16 at once, output", "", "load, s")
        blocks["peers"] = _table(heads, _peers(found))
    return blocks


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, ("---", *["--:"] * (len(heads) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _host(record: Found) -> str:
    host = record["host"]
    limits = (
        ("GB/s read from memory", host["read_gb_s"]),
        ("int8 TOPS", host["int8_tops"]),
        ("bfloat16 TFLOPS", host["bf16_tflops"]),
        ("float32 TFLOPS", host["float32_tflops"]),
    )
    measured = ", ".join(f"{value:.3g} {unit}" for unit, value in limits if value is not None)
    return f"{host['cpu']}, {host['threads']} threads, with {measured} when the first part was measured."


def _rates(found: Found) -> Iterator[tuple[str, ...]]:
    for kind, name in _OURS.items():
        if f"{kind}-alone" not in found:
            continue
        alone = found[f"{kind}-alone"]["runs"][0]
        together = found.get(f"{kind}-together", {"runs": [None]})["runs"][0]
        limits = alone["fraction_of_limit"]
        yield (
            name,
            f"{alone['prefill_tok_s']:,.0f}",
            _limit(alone["prefill_tok_s"], limits["prefill"]),
            f"{alone['decode_tok_s']:.1f}",
            _limit(alone["decode_tok_s"], limits["decode"]),
            "" if together is None else f"{together['output_tok_s']:.0f}",
        )


def _limit(rate: float, fraction: float | None) -> str:
    return "" if not fraction else f"{fraction:.0%} of {rate / fraction:,.0f}"


def _profile(step: Found) -> str:
    prompt = f"Prefill of {step['tokens']} tokens"
    answers = f"Decode, {step['sequences']} at once behind {step['context_tokens'] - 1} tokens"
    title = f"{prompt if step['phase'] == 'prefill' else answers}: {step['step_ms']:.1f} ms a step"
    heads = ("", "ms", "share", "kernels", "MB", "GOP", "of limit")
    return f"{title}.\n\n" + _table(heads, map(_group, step["groups"]))


def _group(group: Found) -> tuple[str, ...]:
    fraction = group["fraction_of_limit"]
    return (
        group["name"],
        f"{group['ms']:.2f}",
        f"{group['share']:.1%}",
        str(group["calls"] or ""),
        f"{group['bytes'] / 1e6:.1f}" if group["bytes"] else "",
        f"{group['operations'] / 1e9:.1f}" if group["operations"] else "",
        "" if fraction is None else f"{fraction:.0%} {group['limit']}",
    )


def _contexts(found: Found) -> Iterator[tuple[str, ...]]:
    curves = [_with_limits(found[name]) for name in ("context", "context-kv8") if name in found]
    for points in zip(*curves, strict=False):
        cells = [f"{points[0]['context']:,}"]
        for index, point in enumerate(points):
            cells.append(f"{point['ms']:.1f}")
            if index == 0:
                cells.append(f"{point['attention_ms']:.1f}")
            cells += [f"{point['limit']:.1f}", f"{point['ms'] / point['limit']:.2f}"]
        yield tuple(cells)


def _with_limits(curve: Found) -> list[dict[str, float]]:
    """The points, with the least that each can take: what the first takes, and its bytes besides."""
    first = curve["points"][0]
    return [
        {
            **point,
            "limit": first["ms"] + (point["kv_bytes"] - first["kv_bytes"]) / (curve["read_gb_s"] * 1e6),
        }
        for point in curve["points"]
    ]


def _peers(found: Found) -> Iterator[tuple[str, ...]]:
    alone, together = (
        found["peers-alone"],
        found.get("peers-together", {"runs": [], "runs_after": [], "peers": []}),
    )
    ours = _mean_run(alone), _mean_run(together)
    yield _rates_of("ingot int4", ours, None, alone["load_s"])
    batched = {(peer["name"], peer["model"]): peer for peer in together["peers"]}
    for peer in alone["peers"]:
        name = peer["name"] if peer["model"] is None else f"{peer['name']}, {peer['model']}"
        if peer["load_s"] is None:
            yield (f"{name}: {peer['status']}", *[""] * 7)
            continue
        runs = peer["runs"], batched.get((peer["name"], peer["model"]), {"runs": []})["runs"]
        theirs = tuple(each[0] if each else None for each in runs)
        yield _rates_of(name, (theirs[0], theirs[1]), ours, peer["load_s"])


def _mean_run(record: Found) -> Found | None:
    pairs = list(zip(record["runs"], record["runs_after"], strict=True))
    names = ("prefill_tok_s", "decode_tok_s", "output_tok_s")
    return {name: (pairs[0][0][name] + pairs[0][1][name]) / 2 for name in names} if pairs else None


def _rates_of(
    name: str,
    runs: tuple[Found | None, Found | None],
    ours: tuple[Found | None, Found | None] | None,
    load_s: float,
) -> tuple[str, ...]:
    cells = [name]
    for index, rate in ((0, "prefill_tok_s"), (0, "decode_tok_s"), (1, "output_tok_s")):
        run, own = runs[index], None if ours is None else ours[index]
        cells.append("" if run is None else f"{run[rate]:.1f}")
        cells.append("" if run is None or own is None else f"{own[rate] / run[rate]:.2f}x")
    return (*cells, f"{load_s:.1f}")


def _plots(found: Found) -> dict[str, str]:
    plots = {}
    if "context" in found:
        series: dict[str, list[tuple[float, float]]] = {}
        for name, label in (("context", "float16 cache"), ("context-kv8", "int8 cache")):
            if name in found:
                points = _with_limits(found[name])
                series[label] = [(point["context"], point["ms"]) for point in points]
                series[f"{label}, limit"] = [(point["context"], point["limit"]) for point in points]
        plots["performance-context"] = svg.lines(
            "A token behind a context", "tokens of context", "ms", series
        )
    if "peers-alone" in found:
        plots["performance-peers"] = svg.bars("Beside other systems", "tok/s", _bars(found))
    return plots


def _bars(found: Found) -> dict[str, dict[str, float]]:
    groups: dict[str, dict[str, float]] = {"prefill 512": {}, "decode": {}, "16 at once, output": {}}
    wanted = (("peers-alone", "prefill 512", "prefill_tok_s"), ("peers-alone", "decode", "decode_tok_s"))
    for part, group, rate in (*wanted, ("peers-together", "16 at once, output", "output_tok_s")):
        record = found.get(part)
        if record is None:
            continue
        mean = _mean_run(record)
        if mean is not None:
            groups[group]["ingot int4"] = mean[rate]
        kind = part.removeprefix("peers-")
        if f"bfloat16-{kind}" in found:
            groups[group]["ingot bfloat16"] = found[f"bfloat16-{kind}"]["runs"][0][rate]
        for peer in record["peers"]:
            if peer["runs"] and peer["name"] not in groups[group]:
                groups[group][peer["name"]] = peer["runs"][0][rate]
    return {name: group for name, group in groups.items() if group}
