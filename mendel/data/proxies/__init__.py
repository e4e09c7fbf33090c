"""The tasks by which the field judges mixers: a registry by name, suites, and their sealed twins.

    make("mqar", "seconds"), suite("recall"), suite("recall", sealed=True)

A twin asks for the same skill in other sizes, another family, or another text; nobody who proposes
may train or choose on it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mendel.data.proxies import copying, languages, recall, states, text
from mendel.data.proxies.proxy import PRESETS, Preset, Proxy
from mendel.data.proxies.text import TextProxy
from mendel.types import InputError, did_you_mean

AnyProxy = Proxy | TextProxy

SUITES: dict[str, tuple[str, ...]] = {
    "recall": (
        "mqar", "overwritten_recall", "in_context_recall", "noisy_recall", "fuzzy_recall",
        "selective_copying", "compression", "memorisation",
    ),
    "states": ("parity", "word_z60", "word_a5", "word_s5"),
    "text": ("regbench", "char_lm"),
}  # fmt: skip
SUITES["all"] = SUITES["recall"] + SUITES["states"] + SUITES["text"]

# sealed: what is different in the twin of each
TWINS: dict[str, tuple[str, str]] = {
    "mqar": ("mqar_twin", "other sizes, gaps of all sizes alike"),
    "overwritten_recall": ("overwritten_recall_twin", "each key written three times"),
    "in_context_recall": ("in_context_recall_twin", "other vocabulary and length"),
    "noisy_recall": ("noisy_recall_twin", "twice the noise"),
    "fuzzy_recall": ("fuzzy_recall_twin", "other vocabulary and length, more pairs"),
    "selective_copying": ("selective_copying_twin", "more tokens, other vocabulary and length"),
    "compression": ("compression_twin", "other vocabulary and length"),
    "memorisation": ("memorisation_twin", "another map, of another size"),
    "parity": ("parity_twin", "flips among other tokens, other lengths"),
    "word_z60": ("word_z60_twin", "Z2 x Z30"),
    "word_a5": ("word_a5_twin", "PSL(2, 7)"),
    "word_s5": ("word_s5_twin", "A5 x Z2"),
    "regbench": ("regbench_twin", "more states, other vocabulary and lengths"),
    "char_lm": ("char_lm_twin", "English instead of code or the text given"),
}

PROXIES: tuple[str, ...] = (*TWINS, *(twin for twin, _ in TWINS.values()))


def make(name: str, preset: Preset = "seconds", *, text: Path | None = None) -> AnyProxy:
    """A proxy by its name.

    preset   seconds, minutes: what one core has done in that; published: as in the literature
    text     a file or folder for char_lm to learn; its twin has a text of its own
    raises   InputError for an unknown name or preset
    """
    if name not in PROXIES:
        hint = did_you_mean(name, PROXIES) or f"There are {', '.join(TWINS)}."
        raise InputError(f"no proxy is called {name!r}. {hint}")
    if preset not in PRESETS:
        raise InputError(f"preset={preset!r} is none. Wanted {', '.join(PRESETS)}. Say 'seconds'.")
    if name in states.WORDS:
        return replace(states.words(name, preset), name=name, preset=preset)
    found: AnyProxy = _families()[name][preset]
    if isinstance(found, TextProxy) and not found.prose:
        found = replace(found, path=text)
    return replace(found, name=name, preset=preset)


def suite(
    name: str, preset: Preset = "seconds", *, sealed: bool = False, text: Path | None = None
) -> tuple[AnyProxy, ...]:
    """The proxies of a suite, or the sealed twin of each; raises InputError for another name."""
    if name not in SUITES:
        hint = did_you_mean(name, SUITES) or f"There are {', '.join(SUITES)}."
        raise InputError(f"no suite is called {name!r}. {hint}")
    names = [TWINS[each][0] if sealed else each for each in SUITES[name]]
    return tuple(make(each, preset, text=text) for each in names)


def _families() -> dict[str, dict[Preset, Proxy] | dict[Preset, TextProxy]]:
    """Every family but the word problems by name."""
    return {
        **recall.FAMILY, **copying.FAMILY, **states.FAMILY, **languages.FAMILY, **text.FAMILY,
    }  # fmt: skip
