"""Which languages the texts are in, as far as a text is long enough to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from mendel.data.check.report import N_EXAMPLES, N_ROWS, Finding, example, finding
from mendel.data.check.rows import Row

MIN_CHARS = 20  # shorter texts are not judged
MAX_CHARS = 500  # what comes later in a text is not looked at
SURE = 0.9
SHARE, N_LEAST = 0.02, 3  # of the judged rows, above which a second language is a finding


def languages(
    rows: Sequence[Row], progress: Callable[[float], None]
) -> tuple[dict[str, float], list[Finding]]:
    """Share of each language (ISO 639-1 as a rule) among the judged rows, and the finding.

    raises   ModuleNotFoundError without py3langid
    cost     0.1 ms a row; 1 s to begin
    source   Lui and Baldwin 2012 by py3langid, 142 languages, works offline
    """
    judged: list[tuple[Row, str]] = []
    for i, row in enumerate(rows):
        if i % 1000 == 0:
            progress(i / len(rows))
        language = language_of(row.text)
        judged += [(row, language)] if language else []
    counts = Counter(language for _, language in judged)
    shares = {language: round(n / len(judged), 4) for language, n in counts.most_common()}
    second = [
        language
        for language, n in counts.most_common()[1:]
        if n > SHARE * len(judged) and n >= N_LEAST
    ]
    if not second:
        return shares, []
    strange = [(row, language) for row, language in judged if language in second]
    told = ", ".join(f"{language} {shares[language]:.0%}" for language in second)
    what = f"of {len(judged):,} rows long enough to tell: {told}, beside {next(iter(shares))}"
    examples = [example(row.number, row.text, language=lang) for row, lang in strange[:N_EXAMPLES]]
    numbers = [row.number for row, _ in strange[:N_ROWS]]
    return shares, [finding("mixed-language", what, len(strange), numbers, examples)]


def language_of(text: str) -> str | None:
    """The text's language (ISO 639-1 as a rule); None where it is too short to be sure."""
    if len(text) < MIN_CHARS:
        return None
    language, sure = _model().classify(text[:MAX_CHARS])
    return str(language) if sure >= SURE else None


@cache
def _model() -> Any:
    langid = import_module("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
