"""Draws the pictures of docs/microgpt.md: python docs/microgpt/draw.py

Every number in them is computed by microgpt.py, on the names that ship in it, so no network is
needed and the files are the same every time. The run is that of `microgpt.py --steps 200` offline.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from microgpt import GPT, SHIPPED, Value, dot, rmsnorm, softmax  # noqa: E402

STEPS = 200
INK, SOFT, PALE, BLUE, ORANGE = "#1f2937", "#6b7280", "#d1d5db", "#2563eb", "#ea580c"
Parts = list[str]


# ---- what a picture is made of


def text(
    x: float, y: float, words: str, color: str = INK, size: int = 13, at: str = "middle"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{at}"'
    halo = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"' if color == SOFT else ""
    return f'<text {place} fill="{color}" {halo}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str = "#ffffff") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="3" fill="{fill}" stroke="{PALE}"/>'


def line(x1: float, y1: float, x2: float, y2: float, color: str = SOFT, more: str = "") -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{color}" {more}/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return line(x1, y1, x2, y2, more='marker-end="url(#tip)"')


def curve(points: Sequence[tuple[float, float]], color: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="2"/>'


def tint(share: float, color: str = BLUE) -> str:
    """White at 0, the colour at 1."""
    mixed = (round(255 + (int(color[i : i + 2], 16) - 255) * share) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def number(value: float, places: int = 2) -> str:
    """Rounded, with a real minus sign, and none before a zero."""
    rounded = f"{value:.{places}f}"
    return rounded.lstrip("-") if float(rounded) == 0 else rounded.replace("-", "−")


def picture(width: int, height: int, title: str, parts: Parts) -> str:
    tip = f'<path d="M0,0 L8,4 L0,8 z" fill="{SOFT}"/>'
    marker = '<marker id="tip" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}</title>",
        f"<defs>{marker}{tip}</marker></defs>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


# ---- the run that the pictures show


def begin() -> tuple[GPT, list[str]]:
    """The model and the shuffled names, as microgpt.py has them before its first step."""
    rng, docs = Random(42), SHIPPED.split()
    rng.shuffle(docs)
    return GPT(docs, rng), docs


class Run(NamedTuple):
    """What was seen in training; `path` follows the first weight of lm_head."""

    model: GPT
    docs: list[str]
    losses: list[float]
    path: list[tuple[float, float, float]]  # the weight, and Adam's m and v of it


@cache
def trained() -> Run:
    model, docs = begin()
    i = model.weights.index(model.state["lm_head"][0][0])
    losses, path = [], [(model.weights[i].data, 0.0, 0.0)]
    for step in range(STEPS):
        losses.append(model.learn(docs[step % len(docs)], rate=0.01 * (1 - step / STEPS)))
        path.append((model.weights[i].data, model.m[i], model.v[i]))
    return Run(model, docs, losses, path)


def labels(doc: str) -> list[str]:
    return ["BOS", *doc, "BOS"]


# ---- 1. a name becomes tokens, and each token a question: what is next?


def draw_tokens() -> str:
    model, docs = begin()
    names = labels(docs[0])
    ids = [model.bos, *map(model.chars.index, docs[0]), model.bos]
    parts = [text(20, 42, "tokens", SOFT, at="start"), text(20, 115, "reads", SOFT, at="start")]
    parts += [text(20, 185, "next", SOFT, at="start"), text(20, 225, "position", SOFT, at="start")]
    for i, (name, id) in enumerate(zip(names, ids, strict=True)):
        x = 100 + 88 * i
        parts += [box(x, 18, 62, 42, tint(0.12)), text(x + 31, 36, name, size=15)]
        parts += [text(x + 31, 53, str(id), SOFT, 12)]
    for i in range(len(names) - 1):
        x = 100 + 88 * i
        parts += [box(x, 92, 62, 34, tint(0.12)), text(x + 31, 114, names[i], size=15)]
        parts += [arrow(x + 31, 126, x + 31, 161), box(x, 162, 62, 34, tint(0.15, ORANGE))]
        parts += [text(x + 31, 184, names[i + 1], size=15), text(x + 31, 225, str(i), SOFT)]
    return picture(
        730, 240, f"The name {docs[0]} as tokens and as pairs of input and target", parts
    )


# ---- 2. autograd on an expression small enough to check by hand


def draw_graph() -> str:
    w, x, b, target = Value(2.0), Value(-0.5), Value(0.3), Value(-1.0)
    product = w * x
    guess = product + b
    miss = guess + target
    loss = miss**2
    loss.backward()
    nodes = {
        w: ("w", 20, 20),
        x: ("x", 20, 110),
        product: ("w · x", 190, 65),
        b: ("b", 190, 155),
        guess: ("w · x + b", 360, 110),
        target: ("−1, the target", 360, 200),
        miss: ("miss", 530, 155),
        loss: ("loss = miss²", 700, 155),
    }
    parts: Parts = []
    for value, (name, left, top) in nodes.items():
        for parent, slope in zip(value.parents, value.slopes, strict=True):
            _, x1, y1 = nodes[parent]
            parts.append(arrow(x1 + 110, y1 + 30, left - 2, top + 30))
            middle = (x1 + 110 + left) / 2, (y1 + top) / 2 + 30
            parts.append(text(middle[0] - 3, middle[1] + 4, f"× {number(slope, 1)}", SOFT, 12))
        parts += [box(left, top, 110, 60), text(left + 55, top + 17, name)]
        parts.append(text(left + 55, top + 35, number(value.data), BLUE))
        parts.append(text(left + 55, top + 52, f"gradient {number(value.grad)}", ORANGE, 12))
    legend = [("blue: the number, from left to right", BLUE)]
    legend += [("orange: the loss's slope by it,", ORANGE)]
    legend += [("from right to left: times the slopes", ORANGE)]
    for n, (words, color) in enumerate(legend):
        parts.append(text(580, 32 + 18 * n, words, color, 12, "start"))
    return picture(830, 275, "Numbers and gradients of a small expression", parts)


# ---- 3. what a token looks like inside, and where the heads look


def attention(model: GPT, doc: str) -> list[list[list[float]]]:
    """Of each head, at each position, the shares of attention that go to each position so far."""
    past: list[list[list[list[Value]]]] = [[]]
    state = model.state
    heads: list[list[list[float]]] = [[] for _ in range(len(state["wte"][0]) // model.size)]
    for pos, token in enumerate([model.bos, *map(model.chars.index, doc)]):
        model(token, past)
        pairs = zip(state["wte"][token], state["wpe"][pos], strict=True)
        normed = rmsnorm(rmsnorm([t + p for t, p in pairs]))
        query = [dot(row, normed) for row in state["layer0.attn_wq"]]
        for i, head in enumerate(heads):
            part = slice(i * model.size, (i + 1) * model.size)
            looks = softmax([dot(query[part], key[part]) for key, _ in past[0]], model.size**0.5)
            head.append([look.data for look in looks])
    return heads


def draw_embedding(model: GPT, token: int, pos: int) -> Parts:
    rows = [model.state["wte"][token], model.state["wpe"][pos]]
    rows.append([t + p for t, p in zip(*rows, strict=True)])
    rows.append(rmsnorm(rows[-1]))
    names = [
        f"wte: what {model.chars[token]} means",
        f"wpe: what place {pos} means",
        "their sum",
        "rmsnorm",
    ]
    parts: Parts = []
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = 16 + 27 * i
        parts.append(text(190, y + 16, name, at="end"))
        for j, value in enumerate(row):
            share = min(1.0, abs(value.data) / 1.5)
            parts.append(
                box(205 + 24 * j, y, 24, 23, tint(share, BLUE if value.data > 0 else ORANGE))
            )
        size = math.sqrt(sum(value.data**2 for value in row) / len(row))
        parts.append(text(605, y + 16, f"size {number(size)}", SOFT, at="start"))
    return parts


def draw_attention() -> str:
    model, docs, _, _ = trained()
    names = labels(docs[0])[:-1]
    parts = draw_embedding(model, model.chars.index(docs[0][0]), 1)
    for h, head in enumerate(attention(model, docs[0])):
        left = 45 + 184 * h
        parts.append(text(left + 81, 152, f"head {h + 1}"))
        for i, name in enumerate(names):
            parts.append(text(left + 27 * i + 13, 172, name, SOFT, 11))
            parts.append(text(left - 5, 196 + 27 * i, name, SOFT, 11, "end"))
        for i, looks in enumerate(head):
            for j, look in enumerate(looks):
                x, y = left + 27 * j, 178 + 27 * i
                parts += [
                    box(x, y, 27, 27, tint(0.8 * look)),
                    text(x + 13.5, y + 18, f"{100 * look:.0f}", size=11),
                ]
    words = "rows: who looks; columns: at whom; numbers: percent of its attention"
    parts.append(text(20, 366, words, SOFT, 12, "start"))
    parts.append(text(605, 366, "above: blue is positive, orange negative", SOFT, 12))
    return picture(775, 380, f"Embedding and attention of {docs[0]} after {STEPS} steps", parts)


# ---- 4. Adam, on one weight


def draw_adam() -> str:
    _, docs, _, path = trained()
    heads = ["step", "name", "gradient g", "m", "v", "m made fair", "v made fair", "move", "weight"]
    parts = [text(50 + 82 * c, 28, head, SOFT, 12) for c, head in enumerate(heads)]
    for n in (1, 2, 3):
        (before, old_m, _), (weight, m, v) = path[n - 1], path[n]
        gradient = (m - 0.85 * old_m) / 0.15  # what m took in
        row = [str(n), docs[n - 1], number(gradient, 4), number(m, 4), number(v, 6)]
        row += [number(m / (1 - 0.85**n), 4), number(v / (1 - 0.99**n), 6)]
        row += [number(weight - before, 4), number(weight, 4)]
        parts.append(line(10, 12 + 26 * n, 750, 12 + 26 * n, PALE))
        parts += [text(50 + 82 * c, 30 + 26 * n, cell) for c, cell in enumerate(row)]
    weights = [weight for weight, _, _ in path]
    low, high = min(weights), max(weights)
    points = [(60 + 3.4 * n, 150 + 130 * (high - w) / (high - low)) for n, w in enumerate(weights)]
    parts += [curve(points, BLUE), line(60, 290, 740, 290)]
    parts += [text(52, y, number(w), SOFT, 12, "end") for y, w in ((154, high), (284, low))]
    parts += [text(60 + 3.4 * n, 306, str(n), SOFT, 12) for n in range(0, STEPS + 1, 50)]
    parts.append(text(400, 322, "the same weight over all steps", SOFT, 12))
    return picture(770, 332, "Adam moves one weight", parts)


# ---- 5. the loss: of one name position by position, and of all names step by step


def draw_losses() -> str:
    (before, docs), (after, _, losses, _) = begin(), trained()
    names, guess = labels(docs[0]), math.log(before.bos + 1)

    def height(loss: float) -> float:
        return 250 - 52 * loss

    parts = [
        line(45, 250, 400, 250),
        line(45, height(guess), 400, height(guess), SOFT, 'stroke-dasharray="4"'),
    ]
    parts.append(text(400, height(guess) - 6, f"guessing: {number(guess)}", SOFT, 12, "end"))
    parts += [
        f'<circle cx="{45 + 1.77 * n:.1f}" cy="{height(loss):.1f}" r="1.8" fill="{PALE}"/>'
        for n, loss in enumerate(losses, 1)
    ]
    means = [(n, sum(losses[n - 25 : n]) / 25) for n in range(25, STEPS + 1)]
    parts.append(curve([(45 + 1.77 * n, height(mean)) for n, mean in means], BLUE))
    parts.append(text(400, height(means[-1][1]) + 18, number(means[-1][1]), BLUE, at="end"))
    parts += [text(40, height(n) + 4, str(n), SOFT, 12, "end") for n in range(5)]
    parts += [text(45 + 1.77 * n, 266, str(n), SOFT, 12) for n in range(0, STEPS + 1, 50)]
    parts.append(text(222, 284, "steps; a dot is one name, the line the mean of 25", SOFT, 12))
    sides = [[loss.data for loss in model.losses(docs[0])] for model in (before, after)]
    parts.append(line(440, 250, 760, 250))
    for i, (first, last) in enumerate(zip(*sides, strict=True)):
        x = 446 + 52 * i
        for left, loss, color in ((x, first, PALE), (x + 22, last, BLUE)):
            parts.append(box(left, height(loss), 21, 250 - height(loss), color))
            parts.append(text(left + 10, height(loss) - 4, number(loss, 1), SOFT, 11))
        parts.append(text(x + 21, 266, f"{names[i]}→{names[i + 1]}", SOFT, 12))
    words = f"{docs[0]}, grey before the first step, blue after {STEPS}"
    parts.append(text(600, 284, words, SOFT, 12))
    return picture(775, 296, "The loss of one name by position, and of all names by step", parts)


PICTURES: dict[str, Callable[[], str]] = {
    "tokens.svg": draw_tokens,
    "graph.svg": draw_graph,
    "attention.svg": draw_attention,
    "adam.svg": draw_adam,
    "losses.svg": draw_losses,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8", newline="\n")
