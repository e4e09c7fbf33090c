"""A whole GPT in one file, after Andrej Karpathy's microgpt (2026): idea, architecture and settings
are his, the code is ours, from the mathematics. Read it from top to bottom. Nothing is left out:
what larger programs add is speed. docs/microgpt.md walks through it with pictures.
"""

import argparse
import math
from http.client import HTTPException
from itertools import count, pairwise
from random import Random
from urllib.request import urlopen

# 1. DATA is a list of documents. Here each is a name, and we want more names like them.
URL = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"  # 32,033 names
SHIPPED = """ada alan alice amir anna anton aria axel bela bruno carmen clara cyrus dora elena emma
erik eva fatima felix fiona freya hana hugo ida ines irene ivan jack jasper joan karim lara leo liam
lina luca maria mila nadia nora olga oscar paul quentin rosa samir sven uma vera wilma xenia zoe"""
FLOOR = 2.061  # nats per token, 5-grams with Witten-Bell smoothing, on this split of names.txt


def read_docs(path: str) -> list[str]:
    """The lines of a file; for URL those of that page, or offline the few names above."""
    try:
        with urlopen(URL, timeout=5) if path == URL else open(path, "rb") as source:
            text = source.read().decode()
    except (OSError, HTTPException, UnicodeDecodeError) as problem:
        if path != URL:
            raise argparse.ArgumentTypeError(f"{problem}. Wanted a text file in UTF-8.") from None
        print(f"could not download names.txt ({problem}): learning the few names in this file")
        text = SHIPPED.replace(" ", "\n")
    return [line.strip() for line in text.splitlines() if line.strip()]


def split(docs: list[str]) -> tuple[list[str], list[str]]:
    """Nine tenths of the distinct documents to learn from, and one tenth that is never seen."""
    distinct = list(dict.fromkeys(docs))  # a name that occurs twice must not be on both sides
    Random(42).shuffle(distinct)  # the same tenth for every --seed
    return distinct[len(distinct) // 10 + 1 :], distinct[: len(distinct) // 10 + 1]


# 2. AUTOGRAD. A Value is a number that remembers its parents, the numbers it was made from, and
# its slope by each: how fast it grows when that parent grows. So from the loss we can walk back
# to every weight, and learn how the loss depends on it. Whoever makes a Value says its slopes.
class Value:
    __slots__ = ("born", "data", "grad", "parents", "slopes")
    births = count()  # a number is born after its parents

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = ()) -> None:
        self.data, self.parents, self.slopes, self.born = data, parents, slopes, next(Value.births)
        self.grad = 0.0  # the slope of the loss by this number, once loss.backward() has run

    def __add__(self, other: "Value") -> "Value":
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: "Value") -> "Value":
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, power: float) -> "Value":
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    def backward(self) -> None:
        """The chain rule: from the youngest on, each number hands its gradient to its parents."""
        family = generation = {self}
        while generation:
            generation = {parent for value in generation for parent in value.parents} - family
            family |= generation
        self.grad = 1.0
        for value in sorted(family, key=lambda value: value.born, reverse=True):
            for parent, slope in zip(value.parents, value.slopes, strict=True):
                parent.grad += slope * value.grad


def dot(a: list[Value], b: list[Value]) -> Value:
    """a1*b1 + a2*b2 + ... in one Value. Its slope by each a is the b, and by each b the a."""
    total = sum(x.data * y.data for x, y in zip(a, b, strict=True))
    return Value(total, (*a, *b), tuple(value.data for value in (*b, *a)))


# 3. MODEL. It reads a token and its position, and scores every token as the possible next one.
def softmax(scores: list[Value], heat: float = 1.0) -> list[Value]:
    """Scores become chances: all above 0, together 1. The more heat, the more alike they get."""
    top = max(score.data for score in scores)  # the chances stay the same, and exp cannot overflow
    e = [math.exp((score.data - top) / heat) for score in scores]  # exp is its own slope
    powers = [Value(p, (score,), (p / heat,)) for p, score in zip(e, scores, strict=True)]
    share = sum(powers, Value(0.0)) ** -1
    return [power * share for power in powers]


def rmsnorm(x: list[Value]) -> list[Value]:
    """The same direction at a standard length, so that no layer has to fear large numbers."""
    scale = (dot(x, x) * Value(1 / len(x)) + Value(1e-5)) ** -0.5
    return [value * scale for value in x]


class GPT:
    def __init__(self, docs: list[str], rng: Random, width=16, heads=4, layers=1, block=16):
        def draw(rows: int, columns: int = width) -> list[list[Value]]:
            return [[Value(rng.gauss(0, 0.08)) for _ in range(columns)] for _ in range(rows)]

        self.layers, self.block, self.size = layers, block, width // heads  # of a head
        self.chars = sorted(set("".join(docs)))  # a character's token is its place here, and one
        self.bos = len(self.chars)  # more token, BOS, marks where documents begin and end
        self.state = {"wte": draw(self.bos + 1), "wpe": draw(block), "lm_head": draw(self.bos + 1)}
        for n in range(layers):
            self.state |= {f"layer{n}.attn_{w}": draw(width) for w in ("wq", "wk", "wv", "wo")}
            self.state[f"layer{n}.mlp_fc1"] = draw(4 * width)
            self.state[f"layer{n}.mlp_fc2"] = draw(width, 4 * width)
        self.weights = [w for matrix in self.state.values() for row in matrix for w in row]
        self.m, self.v, self.steps = [0.0] * len(self.weights), [0.0] * len(self.weights), 0

    def __call__(self, token: int, past: list[list]) -> list[Value]:
        """The scores after this token; `past` has, layer by layer, what earlier calls left."""
        wte, wpe, lm_head, *layers = self.state.values()
        x = rmsnorm([t + p for t, p in zip(wte[token], wpe[len(past[0])], strict=True)])
        for n in range(self.layers):
            wq, wk, wv, wo, fc1, fc2 = layers[6 * n : 6 * n + 6]
            # Attention looks back. The query says what is wanted here, the key of each position so
            # far what it has; where they agree, more of its value is taken. Each head has its part.
            normed, mixed = rmsnorm(x), []
            query, *offer = ([dot(row, normed) for row in matrix] for matrix in (wq, wk, wv))
            past[n].append(offer)  # kept for the positions to come
            for part in (slice(i, i + self.size) for i in range(0, len(x), self.size)):
                looks = softmax([dot(query[part], key[part]) for key, _ in past[n]], self.size**0.5)
                columns = zip(*(value[part] for _, value in past[n]), strict=True)
                mixed += [dot(looks, column) for column in columns]
            x = [old + dot(row, mixed) for old, row in zip(x, wo, strict=True)]
            # The MLP thinks about what was found, in a space four times as wide.
            normed = rmsnorm(x)
            hidden = [dot(row, normed) for row in fc1]
            hidden = [h * Value(float(h.data > 0)) for h in hidden]  # ReLU: nothing below 0
            x = [old + dot(row, hidden) for old, row in zip(x, fc2, strict=True)]
        return [dot(row, x) for row in lm_head]

    def losses(self, doc: str) -> list[Value]:
        """How surprising each next token was: -log of the chance that it was given."""
        tokens = [self.bos, *map(self.chars.index, doc), self.bos]
        past = [[] for _ in range(self.layers)]
        chances = [softmax(self(token, past))[target] for token, target in pairwise(tokens)]
        return [Value(-math.log(p.data), (p,), (-1 / p.data,)) for p in chances]

    # 4. TRAINING
    def learn(self, doc: str, rate: float) -> float:
        """One step: read a document, and move every weight a little against its gradient."""
        loss = sum(self.losses(doc), Value(0.0)) * Value(1 / (len(doc) + 1))
        loss.backward()
        self.steps += 1
        for i, weight in enumerate(self.weights):  # Adam: a step is about as long as `rate`
            self.m[i] = 0.85 * self.m[i] + 0.15 * weight.grad  # where to, lately
            self.v[i] = 0.99 * self.v[i] + 0.01 * weight.grad**2  # how far, squared
            # both began at 0: make up for it while they are young
            m, v = self.m[i] / (1 - 0.85**self.steps), self.v[i] / (1 - 0.99**self.steps)
            weight.data -= rate * m / (math.sqrt(v) + 1e-8)
            weight.grad = 0.0
        return loss.data

    # 5. SAMPLING
    def sample(self, rng: Random, temperature: float = 0.5) -> str:
        """A new document: draw a token by its chance, read it, draw the next, until BOS."""
        past, token, doc = [[] for _ in range(self.layers)], self.bos, ""
        while len(doc) < self.block:
            chances = [chance.data for chance in softmax(self(token, past), temperature)]
            token = rng.choices(range(len(chances)), chances)[0]
            if token == self.bos:
                break
            doc += self.chars[token]
        return doc


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Learn the lines of a text, then invent new ones.")
    parser.add_argument("docs", nargs="?", type=read_docs, default=URL, help="a text file (UTF-8)")
    parser.add_argument("--holdout", action="store_true", help="test on a tenth of the documents")
    for flag, default in dict(steps=1000, width=16, heads=4, layers=1, block=16, seed=42).items():
        parser.add_argument(f"--{flag}", type=int, default=default, help=f"default: {default}")
    args = parser.parse_args()
    docs, held = split(args.docs) if args.holdout else (args.docs, [])
    if not docs:
        parser.error("no documents to learn from. Wanted a text file, one document a line.")
    if min(args.steps, args.width, args.heads, args.layers) < 1:
        parser.error("wanted --steps, --width, --heads and --layers of at least 1.")
    if args.width % args.heads:
        parser.error(f"--heads {args.heads} does not divide --width {args.width}. Set a divisor.")
    if (longest := max(map(len, args.docs))) >= args.block:
        parser.error(f"--block {args.block} cannot hold {longest} characters. Set {longest + 1}.")
    rng = Random(args.seed)
    rng.shuffle(docs)
    model = GPT(args.docs, rng, args.width, args.heads, args.layers, args.block)
    print(f"{len(docs):,} documents, {len(model.chars)} characters, {len(model.weights):,} weights")
    try:
        for step in range(args.steps):
            loss = model.learn(docs[step % len(docs)], rate=0.01 * (1 - step / args.steps))
            print(f"step {step + 1:4}: loss {loss:.4f}", end="\n" if step % 100 == 99 else "\r")
        if held:
            print(f"\ntesting on {len(held):,} documents that were never seen")
            losses = [loss.data for doc in held for loss in model.losses(doc)]
            print(f"held-out loss {sum(losses) / len(losses):.3f} nats per token", end=" ")
            print(f"(guessing: {math.log(model.bos + 1):.3f}; 5-grams of names.txt: {FLOOR:.3f})")
    except KeyboardInterrupt:
        print("\nstopped: this is what it has learned so far", end="")
    print("\nsampled:", *(model.sample(rng) for _ in range(20)), sep="\n")
