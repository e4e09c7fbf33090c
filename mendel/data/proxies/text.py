"""Characters of real text: a path's, or what every Python brings along."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mendel.data.proxies.proxy import PIECE, Examples, Preset, Unit
from mendel.data.tokenizers import make_tokenizer
from mendel.spec import PartSpec

if TYPE_CHECKING:
    from mendel.data.corpus import Corpus, Tokens

HELD_OUT = 0.1  # for the test; and of what remains, for the validation
MAX_CHARACTERS = 2_000_000  # of the text that Python brings along


@dataclass(frozen=True)
class TextProxy:
    """A character language model; scored in bits a character, so that less is better.

    Documents are on one side each, by their content; one file is cut, and its end is the test.
    path     a file or a folder; None: Python's own, the sources of its standard library, or the
             topics of its help where `prose`: they change a little with its version
    """

    context: int
    n_steps: int
    batch: int
    n_test: int  # windows
    prose: bool = False
    path: Path | None = None
    head: PartSpec = PartSpec(part="lm")  # noqa: RUF009  frozen
    name: str = ""
    preset: Preset = "seconds"
    unit: Unit = "bits a character"

    @property
    def longest(self) -> int:
        return self.context

    @property
    def vocab(self) -> int:
        return self._sides[0].vocab_size

    @property
    def chance(self) -> float:
        """Bits of a guess among all characters."""
        return float(np.log2(self.vocab))

    def source(self) -> Tokens:
        return self._sides[0]

    def tests(self, seed: int, n: int = PIECE) -> Iterator[Examples]:
        """The test text from its beginning, as far as n_test windows go.

        seed     changes nothing: the text is finite, and all of it is asked each time, so that who
                 is chosen on it again and again may be fitted to it
        """
        for x, y in self._sides[1].windows(self.context, n):
            yield Examples(x.numpy(), y.numpy())

    @cached_property
    def corpus(self) -> Corpus:
        from mendel.data.corpus import read_corpus

        if self.path is not None:
            return read_corpus(self.path)
        return _help() if self.prose else _sources()

    @cached_property
    def _sides(self) -> tuple[Tokens, Tokens]:
        """What is learned from and validated on; and what is learned from, with the test."""
        from mendel.data.corpus import Corpus, Tokens

        tokenizer = make_tokenizer("chars", self.corpus.text)
        outer = self.corpus.split(HELD_OUT)
        inner = Corpus(outer.train, self.corpus.form).split(HELD_OUT)
        whole, rest = Tokens.of(outer, tokenizer), Tokens.of(inner, tokenizer)
        n = self.n_test * self.context + 1
        return (
            Tokens(rest.train, rest.val[:n], tokenizer.vocab_size),
            Tokens(rest.train, whole.val[:n], tokenizer.vocab_size),
        )


def _sources() -> Corpus:
    """The modules of Python's standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return _some([file.read_text(encoding="utf-8") for file in files])


def _help() -> Corpus:
    """What Python's help() says about its language."""
    from pydoc_data.topics import topics

    return _some([str(topics[name]) for name in sorted(topics)])


def _some(texts: list[str]) -> Corpus:
    """As many as fit; non-ASCII ones are left out, for they would fill the alphabet."""
    from mendel.data.corpus import Corpus

    texts = [text for text in dict.fromkeys(texts) if text.isascii() and text.strip()]
    ends = np.cumsum([len(text) for text in texts])
    return Corpus(tuple(texts[: int(np.searchsorted(ends, MAX_CHARACTERS))]), "folder")


FAMILY: dict[str, dict[Preset, TextProxy]] = {
    "char_lm": {
        "seconds": TextProxy(64, 200, 16, 256),
        "minutes": TextProxy(64, 2000, 12, 1024),
        "published": TextProxy(256, 5000, 64, 1024),  # nanoGPT's for Shakespeare's characters
    },
    "char_lm_twin": {
        "seconds": TextProxy(72, 200, 16, 256, prose=True),
        "minutes": TextProxy(80, 2000, 12, 1024, prose=True),
        "published": TextProxy(288, 5000, 64, 1024, prose=True),
    },
}
