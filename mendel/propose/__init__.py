"""The builtin proposer: what earlier runs in the ledger say of where a new one should start.

traits.py    what is known of a task before anything is trained, and how alike two tasks are
relative.py  a recipe as what sets it apart from its task's starting point, so that tasks compare
evidence.py  turns of earlier runs -> what each recipe was worth there, beside the linear one
order.py     evidence and a new task -> what is expected of each recipe, and in which order to try
explain.py   the same in a few lines
start.py     all of it as one record, kept with the run

Searches that ask for trials one by one, whatever the trials are (they know no recipes):
spaces.py     what a search walks in: designs, their neighbours, their features
searchers.py  the protocol, and what learns from scores alone: random, evolution, hill climbing
tpe.py        Optuna's tree of Parzen estimators, a baseline
surrogate.py  a Gaussian process over features, of one task or several
guided.py     the search that asks it

Recipes, which the research clock breeds:
spelling.py  the one spelling of a recipe, and its digest
novelty.py   when two recipes are one, and how far apart they are
costs.py     what a part costs, by its algebra
matching.py  caps, and a recipe as wide as fits beneath them
menu.py      the named designs, that a win must beat
changes/     every typed change of a recipe, and what two have in one
notes/       what the literature says of a mechanism, and which changes it speaks for

The analyst, who reads the turns:
analyst.py    an insight: effects of fields, interactions, failures, what carries a gain
settings.py   a recipe as the fields that somebody chose
measured.py   turns as trials, each with its gain
effects.py    the regression, and the correction for how many were looked at
failures.py   what failures have in common
ablations.py  each change of a promoted design put back alone
shares.py     where wins came from

The researcher, who proposes:
recipes.py   the problem, the protocol of whoever proposes recipes, proposers by name
memory.py    turns -> each design once, and what it is worth beside whatever champion
options.py   what could be tried next: operators on parents, with words and links
ranking.py   which of it promises most: the surrogate over recipes
archive.py   the best design of each kind, pyribs' (extra [research]); bandit.py: operators compete
builtin.py   the researcher: all of these
baselines.py random search and regularised evolution over recipes; parzen.py: TPE
"""

from mendel.propose.evidence import Past, Tried, pasts
from mendel.propose.explain import named
from mendel.propose.relative import absolute, relative
from mendel.propose.start import Start, Step, start_from
from mendel.propose.traits import Traits, likeness, traits_of

__all__ = [
    "Past",
    "Start",
    "Step",
    "Traits",
    "Tried",
    "absolute",
    "likeness",
    "named",
    "pasts",
    "relative",
    "start_from",
    "traits_of",
]
