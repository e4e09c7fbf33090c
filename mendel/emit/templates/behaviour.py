"""Does the answer stay when the same text is written otherwise? python behaviour.py [--json]

    python behaviour.py                       the texts in golden.json
    python behaviour.py --stdin < texts.json  a JSON list of texts

The texts in golden.json are of training, on which answers stay more than elsewhere: give texts of
your own. Each change is the same every time. Phrases and negation are English. Of a pair, the first
text is changed. Texts that a change leaves as they are do not count.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
N_FAILURES = 3  # listed of each change
LONG_WORD = re.compile(r"[^\W\d_]{4,}")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BESIDE = {
    letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in KEYS
    for i, letter in enumerate(row)
}
VERB = re.compile(
    r"\b(is|are|was|were|am|can|could|do|does|did|have|has|had|will|would|should|must)\b", re.I
)

Change = Callable[[str], str]


def wrong_key(text: str) -> str:
    """A letter inside a word becomes its neighbour on the keyboard."""
    return _in_a_word(text, lambda word, i: word[:i] + _beside(word[i]) + word[i + 1 :])


def letter_dropped(text: str) -> str:
    return _in_a_word(text, lambda word, i: word[:i] + word[i + 1 :])


def letters_swapped(text: str) -> str:
    return _in_a_word(text, lambda word, i: word[:i] + word[i + 1] + word[i] + word[i + 2 :])


def without_marks(text: str) -> str:
    return " ".join(re.sub(r"[.,;:!?]", " ", text).split())


def more_marks(text: str) -> str:
    return f"{text.rstrip('.!? ')}!!!"


def more_space(text: str) -> str:
    return f"  {re.sub(' ', '  ', text)} "


def negated(text: str) -> str:
    return VERB.sub(r"\1 not", text, count=1)


CHANGES: dict[str, tuple[Change, str]] = {  # what is done: how, and what is expected
    "a wrong key": (wrong_key, "same"),
    "a letter left out": (letter_dropped, "same"),
    "two letters swapped": (letters_swapped, "same"),
    "lower case": (str.lower, "same"),
    "upper case": (str.upper, "same"),
    "punctuation removed": (without_marks, "same"),
    "punctuation added": (more_marks, "same"),
    "white space added": (more_space, "same"),
    'begun with "please"': (lambda text: f"please {text}", "same"),
    'begun with "hi,"': (lambda text: f"hi, {text}", "same"),
    'begun with "can you tell me:"': (lambda text: f"can you tell me: {text}", "same"),
    "negated by a not": (negated, "may change"),
}


def changed(name: str, text: str) -> str:
    """The text with a change made to it; of a pair, to the first text."""
    first, tab, second = text.partition("\t")
    return CHANGES[name][0](first) + tab + second


def behaviour(model: Any, texts: Sequence[str]) -> list[dict[str, Any]]:
    """For each change: n texts that it altered, share of answers that stayed, some that did not.

    Answers are the same where `Answer.agrees` says so (answers.py). Worst first, expected ones
    before those that may change.
    """
    before = model.predict(list(texts))
    found = []
    for name, (_, expected) in CHANGES.items():
        other = [changed(name, text) for text in texts]
        at = [i for i, text in enumerate(texts) if other[i] != text]
        after = model.predict([other[i] for i in at])
        stays = [before[i].agrees(answer) for i, answer in zip(at, after, strict=True)]
        failures = [
            {
                "text": texts[i],
                "changed": other[i],
                "before": before[i].short(),
                "after": answer.short(),
            }
            for i, answer, stayed in zip(at, after, stays, strict=True)
            if not stayed
        ]
        share = sum(stays) / len(at) if at else None
        numbers = {"n": len(at), "n_same": sum(stays), "share": share}
        found.append(
            {"name": name, "expected": expected, **numbers, "failures": failures[:N_FAILURES]}
        )
    return sorted(found, key=lambda row: (row["expected"] != "same", row["share"] or 0.0))


def _in_a_word(text: str, alter: Callable[[str, int], str]) -> str:
    """One word of four letters or more is altered inside; which one depends on the text alone."""
    words = list(LONG_WORD.finditer(text))
    if not words:
        return text
    chance = random.Random(zlib.crc32(text.encode("utf-8", "replace")))
    word = chance.choice(words)
    altered = alter(word[0], chance.randrange(1, len(word[0]) - 1))
    return text[: word.start()] + altered + text[word.end() :]


def _beside(letter: str) -> str:
    near = BESIDE.get(letter.lower(), "x")
    return near[0].upper() if letter.isupper() else near[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Does the answer stay when a text is changed?")
    parser.add_argument("--json", action="store_true", help="one JSON list, not a table")
    parser.add_argument("--stdin", action="store_true", help="texts: a JSON list on stdin")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # changed texts are meant to look strange
    from predict import Model

    golden = (HERE / "golden.json").read_bytes()
    texts = json.load(sys.stdin) if args.stdin else json.loads(golden)["texts"]
    found = behaviour(Model(), texts)
    if args.json:
        print(json.dumps(found))
        return
    for row in found:
        share = "   none" if row["share"] is None else f"{row['share']:>7.1%}"
        print(f"{row['name']:<30} {share} of {row['n']:>4}  expected: {row['expected']}")
        for failure in row["failures"]:
            print(f"    {failure['before']} -> {failure['after']}: {failure['changed'][:100]!r}")


if __name__ == "__main__":
    main()
