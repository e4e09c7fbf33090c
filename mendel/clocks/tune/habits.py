"""What follows which answer: by the whole answer, by how it opens, how it ends, and whose it is.

A tool that is called in the same words mostly begins its result in the same words; and whether
there is a next turn at all, an answer's first words often tell.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple

Ids = tuple[int, ...]
MOST_AHEAD = 96  # tokens
LIKELY = 0.6  # of a token, to be followed
SEEN = 2  # times that an answer was given, or a token came, to be believed
LATELY = 8  # continuations of one kind that count
MOST_TEXTS = 256  # that a prompt may go on from
MOST_KINDS = 4096  # of answers; the least recently used go first
MOST_TOKENS = 400_000  # of all continuations
OPENS = ENDS = 2  # tokens
BLOCK = 16  # tokens of a text that are looked up at once; shorter texts are not kept


class _Kind:
    """Answers of one kind: how many there were, how many were gone on from, and how, lately."""

    def __init__(self) -> None:
        self.n = self.n_followed = 0.0
        self.then: deque[Ids] = deque(maxlen=LATELY)

    def given(self) -> None:
        if self.n >= 64:  # what was long ago counts less
            self.n, self.n_followed = self.n / 2, self.n_followed / 2
        self.n += 1

    @property
    def share(self) -> float:
        return (min(self.n, self.n_followed) + 1) / (self.n + 2)


class _Text(NamedTuple):
    ids: Ids
    kinds: tuple[Hashable, ...]


class Habits:
    """Of a server's answers, each tenant's apart."""

    def __init__(self) -> None:
        self.most_texts, self.n_tokens = MOST_TEXTS, 0
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()
        self._texts: OrderedDict[int, _Text] = OrderedDict()  # by their whole blocks

    def __len__(self) -> int:
        return len(self._kinds)

    def keep(self, tenant: str, ids: Ids, output: Ids) -> None:
        """A text that a later prompt may go on from."""
        chain = self._chain(tenant, ids)
        if not chain:
            return
        kinds = _kinds(tenant, output)
        for kind in kinds:
            self._kinds.setdefault(kind, _Kind()).given()
            self._kinds.move_to_end(kind)
        self._texts[chain[-1]] = _Text(ids, kinds)
        self._texts.move_to_end(chain[-1])
        while len(self._texts) > self.most_texts:
            self._texts.popitem(last=False)
        while len(self._kinds) > MOST_KINDS or self.n_tokens > MOST_TOKENS:
            _, gone = self._kinds.popitem(last=False)
            self.n_tokens -= sum(map(len, gone.then))

    def follow(self, tenant: str, prompt: Ids) -> Ids | None:
        """A prompt has come: the newest text that it goes on from, and what follows is learned."""
        for state in reversed(self._chain(tenant, prompt)):
            text = self._texts.get(state)
            if text is not None and prompt[: len(text.ids)] == text.ids:
                more = prompt[len(text.ids) : len(text.ids) + MOST_AHEAD]
                for name in text.kinds:
                    self._learn(name, more)
                return text.ids
        return None

    def _learn(self, name: Hashable, more: Ids) -> None:
        kind = self._kinds.get(name)
        if kind is None:
            return
        kind.n_followed += 1
        gone = kind.then[0] if len(kind.then) == LATELY else ()
        kind.then.append(more)
        self.n_tokens += len(more) - len(gone)

    def _chain(self, tenant: str, ids: Ids) -> list[int]:
        """A number for each prefix of whole blocks."""
        found, state = [], hash(tenant)
        for i in range(BLOCK, len(ids) + 1, BLOCK):
            state = hash((state, ids[i - BLOCK : i]))
            found.append(state)
        return found

    def goes_on(self, tenant: str, output: Ids) -> tuple[Sequence[Ids], float]:
        """What followed, and in what share of cases something did: by the closest known kind."""
        for name in _kinds(tenant, output):
            kind = self._kinds.get(name)
            if kind is not None and kind.n >= SEEN:
                return kind.then, kind.share
        return (), 0.5

    def guess(self, then: Sequence[Ids], sure: float, least: float) -> Ids:
        """The way that most of them went, as long as it is likely enough.

        sure     that there is a next turn; least: of the whole guess
        """
        found: Ids = ()
        left = list(then)
        while len(left) >= SEEN:
            first, last = min(left), max(left)  # what they begin with alike, all begin with
            found = first[: alike(first, last)]
            nexts = [ids[len(found)] for ids in left if len(ids) > len(found)]
            best = max(nexts, key=nexts.count, default=None)
            share = nexts.count(best) / len(left) if best is not None else 0.0
            sure *= share
            if share < LIKELY or sure < least:
                break
            left = [ids for ids in left if ids[len(found) : len(found) + 1] == (best,)]
        return found


def _kinds(tenant: str, output: Ids) -> tuple[Hashable, ...]:
    """The closest first."""
    return (
        hash((tenant, "all", output)),
        hash((tenant, "opens", output[:OPENS])),
        hash((tenant, "ends", output[-ENDS:])),
        hash((tenant, "any")),
    )


def alike(a: Ids, b: Ids) -> int:
    """Tokens that both begin with."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])
