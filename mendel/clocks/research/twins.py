"""What a verification asks: the sealed twin of each proxy, at the size found and at twice of it.

run -> conditions: (twins, caps, the recipe and every design of the menu fitted to them, each
trained as the start is and, where that is another training, as the recipe is)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pydantic import Field

from mendel.clocks.research.run import Run
from mendel.clocks.research.suite import Leg, Suites
from mendel.data.proxies import TWINS, make
from mendel.propose.matching import Caps, caps_of, matched, refusal
from mendel.propose.menu import Named, designs
from mendel.propose.spelling import canonical
from mendel.spec import ModelSpec, PartSpec, Recipe
from mendel.types import Digest, InputError, digest

CONDITIONS: dict[str, tuple[int, int]] = {  # times the width, times the tokens trained on
    "as found": (1, 1),
    "2x width": (2, 1),
    "2x tokens": (1, 2),
}
SIZES = ("key_dim", "value_dim", "head_dim", "hidden")  # of parts; what is not given goes by width
ALIKE = " (trained alike)"  # behind the name of a design that is trained as the recipe is


class Twins(Suites):
    """The sealed twins of a line's proxies, in the same suites and order."""

    tokens: int = Field(1, gt=0)  # times as many as the preset trains on

    @classmethod
    def of(cls, suites: Suites, tokens: int = 1) -> Twins:
        return cls.parse({**suites.to_dict(), "tokens": tokens})

    @property
    def open(self) -> Suites:
        """The proxies that these are the twins of."""
        told = self.to_dict()
        del told["tokens"]
        return Suites.parse(told)

    @property
    def heaviest(self) -> tuple[Leg, ...]:
        """Those that sweep a rate, then the smallest suites, which are most of the mean."""
        of = Counter(leg.suite for leg in self.whole)
        return tuple(sorted(self.whole, key=lambda leg: (not leg.swept, of[leg.suite])))

    def _legs(self, order: Sequence[str]) -> tuple[Leg, ...]:
        text = None if self.text is None else Path(self.text)
        found = []
        for leg in super()._legs(order):
            twin = make(TWINS[leg.name][0], self.preset, text=text)
            longer = replace(twin, n_steps=self.tokens * twin.n_steps)
            found.append(replace(leg, proxy=self._shortened(longer)))
        return tuple(found)


@dataclass(frozen=True)
class Condition:
    """One of the sizes at which a recipe meets the menu."""

    name: str
    twins: Twins
    caps: Caps
    mine: Recipe
    menu: tuple[Named, ...]  # trained as the start is, discoveries in their own way
    alike: tuple[Named, ...] = ()  # the same designs trained as the recipe is, if that is another

    @classmethod
    def of(cls, name: str, recipe: Recipe, run: Run) -> Condition:
        """Raises InputError where the recipe does not fit the caps."""
        width, tokens = CONDITIONS[name]
        start, caps = run.spec.start, run.spec.caps
        if width > 1:
            start, recipe = wider(start, width), wider(recipe, width)
            caps = caps_of(start, caps.vocab, caps.n_tokens)
        mine = recipe if width == 1 else matched(recipe, caps)
        if mine is None:
            raise InputError(f"{name}: the recipe does not fit: {refusal(recipe, caps)}")
        menu = designs(caps, start)
        twins, alike = Twins.of(run.spec.suites, tokens), trained_alike(menu, mine)
        return cls(name, twins, caps, mine, menu, alike)

    @property
    def rivals(self) -> tuple[Named, ...]:
        """All that a win is over."""
        return self.menu + self.alike

    def named(self, keys: Collection[Digest]) -> list[str]:
        """Rivals whose design has one of the keys on the menu, however they are trained."""
        names = {each.name for each in self.menu if each.key in keys}
        return [each.name for each in self.rivals if each.name.removesuffix(ALIKE) in names]

    @cached_property
    def sealed(self) -> Digest:
        """Names what is sealed."""
        return digest([self.twins.to_dict(), [leg.name for leg in self.twins.whole]])

    @cached_property
    def key(self) -> Digest:
        """Names what is asked: another menu or other caps are another question."""
        rivals = [[each.name, each.recipe.hash] for each in self.rivals]
        return digest([self.sealed, self.caps.to_dict(), self.mine.hash, rivals])


def trained_alike(menu: Sequence[Named], mine: Recipe) -> tuple[Named, ...]:
    """Designs as `as_trained` makes them, where that makes another recipe.

    A rate that is doubled is one as well: the sweep's highest is then twice as high.
    """
    known = {each.key for each in menu}
    made = [Named(each.name + ALIKE, as_trained(each.recipe, mine)) for each in menu]
    return tuple(each for each in made if each.key not in known)


def as_trained(design: Recipe, mine: Recipe) -> Recipe:
    """The design with the other's training and first weights."""
    start = {"init_std": mine.model.init_std, "residual_init": mine.model.residual_init}
    model = design.model.model_copy(update=start)
    return canonical(Recipe(model=model, train=mine.train))


def wider(recipe: Recipe, times: int) -> Recipe:
    """At so many times the width, the sizes of parts that were given among it; heads stay."""

    def part(spec: PartSpec) -> PartSpec:
        fields = {
            name: value * times if name in SIZES else value for name, value in spec.fields.items()
        }
        return PartSpec(part=spec.part, fields=fields)

    m: ModelSpec = recipe.model
    update = {
        "width": m.width * times,
        "mixers": tuple(part(each) for each in m.mixers),
        "channels": tuple(part(each) for each in m.channels),
    }
    return recipe.model_copy(update={"model": m.model_copy(update=update)})
