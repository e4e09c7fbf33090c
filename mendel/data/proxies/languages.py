"""Languages in context: strings of an automaton that no other text has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.data.proxies.proxy import Examples, Ids, Preset, Proxy, Uniforms, below, cut, distinct

Edges = list[list[int]]  # of each state
MIN_STATES = 4


@dataclass(frozen=True)
class Languages:
    """Strings of a random automaton, each from its first state, with a separator behind each.

    Asked are the tokens of every string but the first; right is whatever the automaton allows
    there. The split goes by the automaton, so that a tested one was never trained on.
    source   Akyurek 2024 (RegBench): states with 1 ... n_edges edges, each taken as often
    """

    vocab: int  # the last is the separator
    length: int
    n_states: int  # at most
    n_edges: int  # of a state, at most
    longest: int  # tokens of a string

    @property
    def n_symbols(self) -> int:
        return min(self.n_states, self.vocab - 1)  # of one automaton, out of the vocabulary

    @property
    def _sizes(self) -> tuple[int, ...]:
        S, T = self.n_states, self.length + 1
        return 1, self.vocab - 1, S, S * self.n_symbols, S * self.n_edges, T, T

    @property
    def n_numbers(self) -> int:
        return sum(self._sizes)

    def draw(self, u: Uniforms) -> Examples:
        *automaton_u, lengths_u, choices_u = cut(u, *self._sizes)
        symbols, degrees, targets = self._automata(automaton_u)
        rows, V = np.arange(len(u)), self.vocab
        text = np.empty((len(u), self.length + 1), np.int64)
        states, n_before = np.empty_like(text), np.zeros_like(text)
        state, left = np.zeros_like(rows), 1 + below(lengths_u[:, 0], self.longest)
        for t in range(self.length + 1):
            ends, states[:, t] = left == 0, state
            edge = below(choices_u[:, t], degrees[rows, state])
            text[:, t] = np.where(ends, V - 1, symbols[rows, state, edge])
            state = np.where(ends, 0, targets[rows, state, edge])
            left = np.where(ends, 1 + below(lengths_u[:, t], self.longest), left - 1)
            n_before[:, t] = ends
        asked = (np.cumsum(n_before, 1) > 0) & (text != V - 1)
        return Examples(
            text[:, :-1].copy(),
            np.where(asked, text, -1)[:, 1:],
            self._allowed(symbols, degrees)[rows[:, None], states[:, 1:]],
            _content(symbols, degrees, targets),
        )

    def _automata(self, u: list[Uniforms]) -> tuple[Ids, Ids, Ids]:
        """Symbols (n, S, E) of the edges, degrees (n, S), targets (n, S, E)."""
        n, S, E = len(u[0]), self.n_states, self.n_edges
        count = MIN_STATES + below(u[0], S - MIN_STATES + 1)  # (n, 1) states
        alphabet = distinct(u[1], self.n_symbols)
        degrees = 1 + below(u[2], E)
        places = distinct(u[3].reshape(n * S, -1), E).reshape(n, S * E)
        symbols = np.take_along_axis(alphabet, places, 1).reshape(n, S, E)
        return symbols, degrees, below(u[4], count).reshape(n, S, E)

    def _allowed(self, symbols: Ids, degrees: Ids) -> NDArray[np.bool_]:
        """(n, S, V): what may come in each state."""
        n, S, E = symbols.shape
        found = np.zeros((n, S, self.vocab), bool)
        for e in range(E):
            rows, states = np.nonzero(degrees > e)
            found[rows, states, symbols[rows, states, e]] = True
        return found


def _content(symbols: Ids, degrees: Ids, targets: Ids) -> Ids:
    """(n, k), equal for equal automata however their states are numbered."""
    n, S, E = symbols.shape
    content = np.full((n, S * (2 * E + 1)), -2)
    lists = (symbols.tolist(), degrees.tolist(), targets.tolist())
    for row, automaton in enumerate(zip(*lists, strict=True)):
        found = canonical(*automaton)
        content[row, : len(found)] = found
    return content


def canonical(symbols: Edges, degrees: list[int], targets: Edges) -> list[int]:
    """What the first state leads to: edges by their symbols, states numbered as they are found."""
    numbers, waiting, found = {0: 0}, [0], []
    for state in waiting:  # grows as new ones are found
        edges = zip(symbols[state], targets[state], strict=True)
        for symbol, target in sorted(list(edges)[: degrees[state]]):
            if target not in numbers:
                numbers[target] = len(numbers)
                waiting.append(target)
            found += [symbol, numbers[target]]
        found.append(-1)
    return found


def _languages(task: Languages, n_steps: int, batch: int, n: int, N: int | None = None) -> Proxy:
    return Proxy(task, task, (1 + task.n_edges) / 2 / (task.vocab - 1), n_steps, batch, n, N)


FAMILY: dict[str, dict[Preset, Proxy]] = {
    "regbench": {
        "seconds": _languages(Languages(9, 96, 5, 3, 12), 300, 32, 256),
        "minutes": _languages(Languages(13, 256, 8, 4, 24), 1500, 32, 256),
        "published": _languages(Languages(19, 512, 12, 4, 50), 31_250, 32, 500, 5_000),
    },
    "regbench_twin": {
        "seconds": _languages(Languages(11, 108, 6, 3, 10), 300, 32, 256),
        "minutes": _languages(Languages(16, 288, 10, 4, 20), 1500, 32, 256),
        "published": _languages(Languages(25, 512, 16, 5, 40), 31_250, 32, 500, 5_000),
    },
}
