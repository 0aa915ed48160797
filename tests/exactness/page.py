"""What was measured, as a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping

from ingot.frontend.catalog import Checked, CheckedArchitecture
from ingot.frontend.catalog.checked import TOLERANCE

__all__ = ["page_of", "summary"]

_PAGE = """\
# Which models there are, and how exact they are

`ingot models` tells the same, and `ingot models NAME` each setting that was tried. No number here was written
by hand: the tests of exactness write down what they measure.

```
python -m pytest tests/exactness -k "log_prob or vectors_are" -m "slow or not slow" --update-checked
python tests/exactness/try_architectures.py --compile --update-checked
```

## Defined here

Tiny random models in which all dimensions differ, compiled in float32, as they are defined here and as they
are traced: the largest difference of any log-probability from transformers {transformers}, and in brackets in
how many settings. Of encoders it is that of vectors' elements, relative to the largest. Tests allow
{tolerance:g}.

| model type | layers | defined here | traced |
|---|---|--:|--:|
{families}

## Traced from transformers

Every causal language model that transformers builds, those above too, with one tiny configuration: traced,
converted, run by the interpreter, compiled, and run in three steps (a chunk, a token, the rest).

{summary}

| model type | interpreted | compiled | what stands in the way |
|---|--:|--:|---|
{architectures}
"""


def page_of(checked: Checked) -> str:
    """``docs/architectures.md``."""
    families = [
        _row(model_type, ", ".join(family.layers), _in_short(family.native), _in_short(family.export))
        for model_type, family in checked.families.items()
    ]
    architectures = [
        _row(
            model_type,
            _number(found.interpreted),
            _number(found.compiled),
            ("keeps states; " if found.has_states and found.why else "") + found.why,
        )
        for model_type, found in checked.architectures.items()
    ]
    return _PAGE.format(
        transformers=checked.transformers,
        tolerance=TOLERANCE,
        families="\n".join(families),
        summary=summary(checked.architectures),
        architectures="\n".join(architectures),
    )


def summary(architectures: Mapping[str, CheckedArchitecture]) -> str:
    """How many come how far."""
    every = [found for found in architectures.values() if found.is_built]
    others = [found for found in every if not found.has_states]
    agree = [found for found in every if found.interpreted is not None and found.interpreted <= TOLERANCE]
    match = [found for found in every if found.matches]
    return "\n".join(
        (
            f"Of {len(architectures)} architectures {len(every)} can be built here, tiny and by themselves.",
            f"{sum(found.interpreted is not None for found in every)} are converted.",
            f"{len(agree)} of these match within {TOLERANCE:g} by the interpreter.",
            f"{sum(found.compiled is not None for found in agree)} of these are compiled and run.",
            f"{len(match)} of these match, {len(match) / max(len(every), 1):.0%} of those that are built.",
            f"Of the {len(others)} that keep no states besides keys and values, "
            f"{sum(found.matches for found in others)} do.",
        )
    )


def _in_short(settings: Mapping[str, float | str]) -> str:
    numbers = [found for found in settings.values() if isinstance(found, float)]
    if not numbers:
        return "; ".join(dict.fromkeys(str(found) for found in settings.values()))
    refused = len(settings) - len(numbers)
    return f"{max(numbers):.1e} ({len(numbers)})" + (f", {refused} refused" if refused else "")


def _number(difference: float | None) -> str:
    return "" if difference is None else f"{difference:.0e}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|')[:240] for cell in cells)} |"
