"""Traffic to measure a server with: five workloads, seeded, made from any text.

text, seed --Maker--> Conversation: an opening, and what is said after each answer
                      a trace is a file of them, a JSON object a line

chat    short questions behind one of a few long instructions that many share
edit    a passage to be written once more with a name changed: most of the answer is in the prompt
free    a few words to go on from; nothing to share and nothing to copy
agent   calls of tools over several turns, each prompt the one before and what came of it
long    a long passage to go on from
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mendel.serve.stories import stories
from mendel.types import InputError

NAMES = ("Tom", "Lily", "Ben", "Anna", "Max", "Mia", "Sam", "Lucy")
PLACES = ("garden", "kitchen", "park", "forest", "river", "school", "market", "barn")
THINGS = ("ball", "book", "cake", "drum", "key", "kite", "lamp", "rope", "shoe", "stone")
N_INSTRUCTIONS = 3  # long texts that chats share
TOOLS = """Tools: look(place) tells what is there. take(thing) picks it up. tell(name, words).
After each call comes its result. Call one tool at a time; end with tell when the task is done.
"""


@dataclass(frozen=True)
class Conversation:
    """One or more requests: each prompt is the one before, its answer, and the next words."""

    workload: str
    opening: str
    then: tuple[str, ...] = ()  # said after each answer
    n_tokens: int = 64  # of each answer at most
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()  # what ends an answer, and is no part of it
    at_s: float | None = None  # when it begins, from the start of the replay; None: when it can
    answers: tuple[str, ...] = field(default=(), repr=False)  # good ones, to train on
    # what a tool says to a call, whenever it comes; to another one, what `then` has in its place
    results: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def n_requests(self) -> int:
        return 1 + len(self.then)

    def reply(self, i: int, answer: str) -> str:
        """What is said after the i-th answer."""
        return self.results.get(answer.strip(), self.then[i])

    def document(self) -> str:
        """With its good answers: what a model learns to answer so from; empty without them."""
        if len(self.answers) != self.n_requests:
            return ""
        said = [self.opening]
        for answer, words in zip(self.answers, (*self.then, ""), strict=True):
            said += [answer, words]
        return "".join(said)


class Maker:
    """Conversations of each workload from a text; the same text and seed, the same ones.

    text      None: simple stories made on the spot
    n_chars   of the longest prompt, the long passage; the others are shares of it
    """

    def __init__(self, text: str | None = None, *, n_chars: int = 1200, seed: int = 0) -> None:
        if n_chars < 200:
            raise InputError(f"n_chars={n_chars}: wanted 200 or more, or no passage fits.")
        self.n_chars, self.seed = n_chars, seed
        self._sentences = sentences(text) if text is not None else sentences(stories(4000, seed))
        fixed = np.random.default_rng([seed, 0])
        self._instructions = [self._instruction(fixed) for _ in range(N_INSTRUCTIONS)]

    def make(self, workload: str, i: int) -> Conversation:
        """The i-th conversation of a workload."""
        makers: dict[str, Callable[[np.random.Generator], Conversation]] = {
            "chat": self._chat, "edit": self._edit, "free": self._free, "agent": self._agent,
            "long": self._long,
        }  # fmt: skip
        rng = np.random.default_rng([self.seed, 1 + WORKLOADS.index(workload), i])
        return makers[workload](rng)

    def mix(self, weights: Mapping[str, float], n_requests: int) -> Iterator[Conversation]:
        """Conversations in random order until they are so many requests together."""
        names = sorted(weights)
        shares = np.array([weights[name] for name in names], float)
        rng, counts = np.random.default_rng([self.seed, 99]), dict.fromkeys(names, 0)
        while n_requests > 0:
            name = str(rng.choice(names, p=shares / shares.sum()))
            made = self.make(name, counts[name])
            counts[name] += 1
            n_requests -= made.n_requests
            yield made

    def _chat(self, rng: np.random.Generator) -> Conversation:
        # the first is asked as often as the rest together, as a popular assistant is
        which = min(int(rng.geometric(0.5)) - 1, N_INSTRUCTIONS - 1)
        passage = self._passage(rng, self.n_chars // 8)
        first, _, rest = passage.partition(". ")
        asked = f"User: What comes after these words: {first}.\nAssistant:"
        return Conversation("chat", self._instructions[which] + asked, n_tokens=48,
                            answers=(f" {rest or first}\n",))  # fmt: skip

    def _edit(self, rng: np.random.Generator) -> Conversation:
        old, new = (str(name) for name in rng.choice(NAMES, 2, replace=False))
        passage = self._passage(rng, self.n_chars // 4)
        named = re.sub(r"\b(she|he|They|She|He|they)\b", old, passage, count=3)
        opening = f"Text: {named}\nThe same, with {new} for {old}:"
        return Conversation("edit", opening, n_tokens=96,
                            answers=(f" {named.replace(old, new)}\n",))  # fmt: skip

    def _free(self, rng: np.random.Generator) -> Conversation:
        words = self._passage(rng, 40).split()
        return Conversation("free", " ".join(words[:4]), n_tokens=128)

    def _agent(self, rng: np.random.Generator) -> Conversation:
        name, thing = str(rng.choice(NAMES)), str(rng.choice(THINGS))
        places = [str(place) for place in rng.choice(PLACES, 3, replace=False)]
        task = f"Task: find the {thing} and tell {name} where it was.\nCall:"
        results = [self._result(rng, place, thing, place == places[-1]) for place in places]
        told = f'\nResult: {{"ok": true, "taken": "{thing}"}}\nCall:'
        calls = [f' look("{place}")' for place in places]
        calls += [f' take("{thing}")', f' tell("{name}", "it was in the {places[-1]}")']
        others = [place for place in PLACES if place not in places]
        looks = dict(zip(places, results, strict=True))
        looks |= {place: self._result(rng, place, thing, False) for place in others}
        says = {f'look("{place}")': result for place, result in looks.items()}
        says |= {f'take("{each}")': told.replace(f'"{thing}"', f'"{each}"') for each in THINGS}
        return Conversation("agent", TOOLS + task, (*results, told), 24, stop=("\n",),
                            answers=tuple(calls), results=says)  # fmt: skip

    def _long(self, rng: np.random.Generator) -> Conversation:
        return Conversation("long", self._passage(rng, self.n_chars), n_tokens=48)

    def _result(self, rng: np.random.Generator, place: str, thing: str, is_here: bool) -> str:
        others = {str(name) for name in rng.choice(THINGS, 3, replace=False)} - {thing}
        things = sorted({*others, thing} if is_here else others)
        # a place looks as it always does; what lies there changes
        same = np.random.default_rng([self.seed, 98, PLACES.index(place)])
        told = {"place": place, "looks": self._passage(same, self.n_chars // 8), "things": things}
        return f"\nResult: {json.dumps(told, ensure_ascii=False)}\nCall:"

    def _instruction(self, rng: np.random.Generator) -> str:
        facts = self._passage(rng, self.n_chars // 2)
        return f"System: You know this story well and answer in its words. {facts}\n"

    def _passage(self, rng: np.random.Generator, n_chars: int) -> str:
        """Whole sentences of the text that follow one another, at most so many characters."""
        begins, n = int(rng.integers(len(self._sentences))), 0
        found: list[str] = []
        for i in range(len(self._sentences)):
            sentence = self._sentences[(begins + i) % len(self._sentences)]
            n += len(sentence) + 1
            if n > n_chars and found:
                break
            found.append(sentence[:n_chars])
        return " ".join(found)


WORKLOADS = ("chat", "edit", "free", "agent", "long")


def sentences(text: str) -> list[str]:
    """Of a text, with single spaces; raises InputError where there are too few to choose from."""
    found = [" ".join(each.split()) for each in re.split(r"(?<=[.!?])\s+|\n{2,}", text)]
    found = [each for each in found if each]
    if len(found) < 20:
        raise InputError(f"the text has {len(found)} sentences. Wanted 20 or more to make from.")
    return found


def parse_mix(text: str) -> dict[str, float]:
    """chat=2,edit=1 -> weights; raises InputError."""
    found: dict[str, float] = {}
    for each in text.split(","):
        name, _, weight = each.strip().partition("=")
        if name not in WORKLOADS:
            raise InputError(f"no workload is called {name!r}. There are {', '.join(WORKLOADS)}.")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = -1.0
        if not 0 < found[name] < float("inf"):
            raise InputError(f"{each!r}: wanted a weight above 0, such as {name}=2.")
    return found


def write_trace(file: Path, conversations: Iterable[Conversation]) -> None:
    """A JSON object a line; what is as by default is left out."""
    with file.open("w", encoding="utf-8") as out:
        for each in conversations:
            told = {k: v for k, v in asdict(each).items() if v not in ((), None, {})}
            told.pop("answers", None)
            out.write(json.dumps(told, ensure_ascii=False) + "\n")


def read_trace(file: Path) -> list[Conversation]:
    """raises InputError that names the line."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # U+2028 is no end of a line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}. Wanted JSON lines in UTF-8.") from None
    found = [_parsed(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{file} holds no conversation. Wanted a JSON object a line.")
    return found


def _parsed(line: str, where: str) -> Conversation:
    try:
        told: dict[str, Any] = json.loads(line)
        unknown = set(told) - set(KEYS)
        bad = [key for key, value in told.items() if key in KEYS and not KEYS[key](value)]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{where} is no JSON object: {error}.") from None
    if unknown or bad or "opening" not in told:
        what = f"unknown {sorted(unknown)}" if unknown else f"bad or missing {bad or ['opening']}"
        raise InputError(f"{where}: {what}. Wanted opening, and of {', '.join(KEYS)} what differs.")
    lists = {key: tuple(told.get(key, ())) for key in ("then", "stop")}
    return Conversation(**{"workload": "trace", **told, **lists})


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _are_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(each, str) and each for each in value)


KEYS: dict[str, Callable[[Any], bool]] = {
    "workload": lambda value: isinstance(value, str),
    "opening": lambda value: isinstance(value, str) and bool(value),
    "then": lambda value: not isinstance(value, str) and _are_texts(value),
    "stop": lambda value: not isinstance(value, str) and _are_texts(value),
    "results": lambda value: isinstance(value, Mapping) and _are_texts([*value.values()]),
    "n_tokens": lambda value: isinstance(value, int) and _is_number(value, 1, 1 << 20),
    "temperature": lambda value: _is_number(value, 0, 100),
    "top_p": lambda value: _is_number(value, 1e-9, 1),
    "seed": lambda value: isinstance(value, int) and _is_number(value, 0, 2**63),
    "at_s": lambda value: _is_number(value, 0, 1e9),
}
