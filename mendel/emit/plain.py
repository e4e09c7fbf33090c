"""The report for readers who are not engineers: what it does, how often it is right, where not.

Made of the facts of report.json alone; what it does not hold is left out or said to be unknown.
"""

from __future__ import annotations

from mendel.emit.section import Section, section
from mendel.emit.values import Row, count, part, rows_of, say, short, size, text
from mendel.emit.weaknesses import is_below

MIN_OF_CLASS = 5  # rows of a class, below which nothing is said of it
WEAK = 0.8  # share of a class that is found, below which it is named
FRAGILE = 0.95  # share of answers that stay, below which a change is named
N_NAMED = 4
ANSWERS = {
    "classify": "one of the labels it was taught, or says that none fits",
    "pair": "one label for two texts",
    "multilabel": "every label that fits, which may be none",
    "regress": "a number, and how far off it may be",
    "tag": "the pieces of the text that matter, each with its name",
    "extract": "a record of the fields that it finds",
    "retrieve": "the passages that fit best, each with its file",
}
NOT_FOR = (
    "Do not use it for decisions about people that nobody looks over.",
    "Do not use it for texts in another language, of another kind or about other things than those "
    "it was taught with: it may answer all the same, and wrongly.",
    "Do not use it where a wrong answer does harm, unless a person checks.",
)


def plain(report: Row) -> list[Section]:
    """Sections of the plain report, in the order in which they are read."""
    makers = (_does, _right, _weak, _refuses, _taught)
    return [*(s for s in (maker(report) for maker in makers) if s.lines), _not_for(report)]


def of_100(share: float | None) -> str | None:
    return None if share is None else f"{round(100 * share)} of 100"


def _does(r: Row) -> Section:
    kind, labels = str(part(r, "task", "kind")), part(r, "task", "labels") or []
    names = ", ".join(str(text(x)) for x in labels[:10]) + (" and others" * (len(labels) > 10))
    return section(
        "What it does",
        say("{}.", (text(part(r, "task", "description")) or "").rstrip(".") or None),
        say("It reads a text and gives {}.", ANSWERS.get(kind)),
        say("It knows {} labels: {}.", count(len(labels)), names) if labels else None,
    )


def _right(r: Row) -> Section:
    s, status = r.get("sealed") or {}, r.get("status") or {}
    best = next(iter(rows_of(r, "baselines") or []), {})
    is_share = s.get("n_correct") is not None
    return section(
        "How often it is right",
        None if status.get("verified") else
        say("Do not rely on these numbers yet: {}.", _without_flags(status.get("reason"))),
        say("Of texts that it had not seen before, it answered {} right; with so few texts to test "
            "on, the truth may lie between {} and {}. {} texts were tested.",
            of_100(s.get("score")), of_100(s.get("low")), of_100(s.get("high")), count(s.get("n")))
        if is_share else None,
        say("{} texts that it had not seen before got exactly what was wanted.",
            of_100(s.get("exact"))),
        say("Its number is off by {} on average. It also says between which numbers the truth "
            "should lie, and for {} texts it does.", short(s.get("mean_miss")),
            of_100(part(s, "coverage", "got"))),
        say("Its score on texts that it had not seen before is {} ({}).", of_100(s.get("score")),
            text(r.get("metric")))
        if not is_share and s.get("exact") is None and s.get("mean_miss") is None else None,
        say("A simple method that anyone could use instead, on the same texts: {} right.",
            of_100(best.get("score"))) if is_share else None,
    )  # fmt: skip


def weak_points(r: Row) -> tuple[str, ...]:
    """Classes rarely found, slices clearly below the whole, and changes that alter answers."""
    whole = part(r, "sealed", "score")
    slices = [x for x in rows_of(r, "slices") or [] if is_below(x, whole)]
    changes = [x for x in rows_of(r, "behaviour", "tests") or []
               if x.get("expected") == "same" and (x.get("share") or 0) < FRAGILE]  # fmt: skip
    said = (
        *[say("Of the {} texts of {} that were tested, it found {}.", count(x["n"]),
              text(x.get("label")), count(x["n"] * x["recall"]))
          for x in _weak_classes(r)[:N_NAMED]],
        *[say("Worse than elsewhere: {} {} ({}).", text(x.get("by")), text(x.get("slice")),
              of_100(x.get("score"))) for x in slices[:N_NAMED]],
        *[say("The same text written otherwise ({}) keeps its answer in {} cases.",
              text(x.get("name")), of_100(x.get("share"))) for x in changes[:N_NAMED]],
    )  # fmt: skip
    return tuple(line for line in said if line)


def _weak(r: Row) -> Section:
    return section("Where it is weak", *weak_points(r))


def _without_flags(reason: object) -> str | None:
    """What a command would be told stands in brackets at the end."""
    return (text(reason) or "").split(" (--")[0] or None


def _weak_classes(r: Row) -> list[Row]:
    rows = rows_of(r, "sealed", "per_class") or []
    known = [x for x in rows if (x.get("n") or 0) >= MIN_OF_CLASS and x.get("recall") is not None]
    return sorted((x for x in known if x["recall"] < WEAK), key=lambda x: x["recall"])


def _refuses(r: Row) -> Section:
    a = part(r, "sealed", "abstention") or {}
    if not a:
        return section("What it refuses")
    outside, coverage, threshold = (a.get(k) for k in ("outside", "coverage", "threshold"))
    if isinstance(threshold, float) and threshold >= 1:
        return section("What it refuses", "Nothing: it gives every text a label, fitting or not.")
    refused = None if coverage is None else 1 - coverage
    return section(
        "What it refuses",
        say("It says that no label fits where a text is too unlike what it was taught. That "
            "happened to {} texts that do have a label.", of_100(refused)),
        say("Of texts that have none of its labels, it noticed {}.", of_100(outside.get("recall")))
        if outside else
        "How often it notices a text that has none of its labels is not known: none was there to "
        "test it on.",
    )  # fmt: skip


def _taught(r: Row) -> Section:
    d = r.get("data") or {}
    return section(
        "What it was taught with",
        say("{} texts with their answers; {} others were kept back to test it.",
            count(d.get("n_train")), count(d.get("n_sealed"))),
        say("Where they come from: {}.", text(d.get("provenance"))),
        *[say("{}: {}{}. Licence: {}.", text(s.get("name")), text(s.get("file")),
              say(", {}", size(s.get("bytes"))) or "", text(s.get("licence")))
          for s in rows_of(d, "sources") or []],
    )  # fmt: skip


def _not_for(r: Row) -> Section:
    unverified = part(r, "status", "verified") is not True
    first = "Do not use it in earnest before it was tested on real texts of yours."
    return section("What not to use it for", first if unverified else None, *NOT_FOR)
