"""Simple stories by the yard, for traffic where no text is at hand."""

from __future__ import annotations

import numpy as np

PEOPLE = ("Tom", "Lily", "Ben", "Anna", "Max", "Mia", "Sam", "Lucy", "the old man", "the girl")
ADJECTIVES = ("big", "small", "red", "old", "happy", "quiet", "bright", "soft", "heavy", "strange")
NOUNS = ("dog", "ball", "house", "tree", "bird", "boat", "stone", "box", "song", "cake", "hat")
PLACES = ("garden", "park", "kitchen", "forest", "river", "school", "market", "barn", "hill")
DID = ("found", "saw", "lost", "wanted", "carried", "painted", "hid", "liked", "bought", "washed")
FELT = ("was glad", "felt sad", "laughed", "ran home", "sat down", "began to sing", "said nothing")
FORMS = (
    "One day, {who} went to the {place} and {did} a {adjective} {noun}.",
    "{Who} {did} the {noun} in the {place}, and {other} {felt}.",
    '"Look at the {adjective} {noun}," said {who}.',
    "{Who} {felt}, because the {noun} was very {adjective}.",
    "Then {who} and {other} took the {adjective} {noun} to the {place}.",
    "It was a {adjective} day in the {place}.",
    "But the {noun} was not in the {place}, and {who} {felt}.",
    "They played with the {noun} until {other} {felt}.",
)


def stories(n_sentences: int, seed: int = 0) -> str:
    """So many sentences, eight to a paragraph; the same seed, the same text."""
    rng = np.random.default_rng(seed)
    said = [_sentence(rng) for _ in range(n_sentences)]
    paragraphs = [" ".join(said[i : i + 8]) for i in range(0, n_sentences, 8)]
    return "\n\n".join(paragraphs)


def _sentence(rng: np.random.Generator) -> str:
    def one(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    who = one(PEOPLE)
    return one(FORMS).format(
        who=who, Who=who[0].upper() + who[1:], other=one(PEOPLE), place=one(PLACES),
        noun=one(NOUNS), adjective=one(ADJECTIVES), did=one(DID), felt=one(FELT),
    )  # fmt: skip
