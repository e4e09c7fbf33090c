"""What a report says of the answers themselves, by kind of task: one short function a section.

Whatever the report lacks is left out or said to be not measured. Nothing is escaped here.
"""

from __future__ import annotations

from mendel.emit.plots import confusion_plot, coverage_plot, reliability_plot
from mendel.emit.section import Section, section
from mendel.emit.values import (
    MAX_ROWS,
    Row,
    count,
    decimal,
    given,
    part,
    pct,
    quote,
    rows_of,
    say,
    span,
    table_of,
    text,
)


def _classes(r: Row) -> Section:
    rows = rows_of(r, "sealed", "per_class")
    ranked = sorted(rows or [], key=lambda x: _order(x.get("f1")))
    weak = [say("{} (F1 {})", text(x.get("label")), pct(x.get("f1"))) for x in ranked[:3]]
    return section(
        "Classes, worst first",
        say("Weakest of {}: {}.", count(len(ranked)), ", ".join(w for w in weak if w) or None)
        if len(ranked) > MAX_ROWS else None,
        table=table_of(ranked, ("Class", "label", text), ("n", "n", count),
                       ("Precision", "precision", pct), ("Recall", "recall", pct),
                       ("F1", "f1", pct)),
    )  # fmt: skip


def _calibration(r: Row) -> Section:
    c = part(r, "sealed", "calibration") or {}
    names = {"ece": "calibration error (ECE)", "nll": "log loss (NLL)", "brier": "Brier score"}
    rows = [
        {"name": name} | {side: part(c, side, key) for side in ("before", "after")}
        for key, name in names.items()
    ]
    known = [row for row in rows if row["before"] is not None or row["after"] is not None]
    return section(
        "Calibration",
        say("One temperature of {} divides the logits; it was fitted without the sealed data.",
            decimal(part(r, "sealed", "temperature"))),
        say("Lower is better in each row. ECE over {} bins of equal mass.", count(c.get("n_bins")))
        if known else None,
        table=table_of(known, ("Measure", "name", text), ("Before", "before", decimal),
                       ("After", "after", decimal)),
        plot=reliability_plot,
        caption="Reliability: on the diagonal, a confidence is the share that is right.",
    )  # fmt: skip


def _abstention(r: Row) -> Section:
    a = part(r, "sealed", "abstention") or {}
    outside, sets = a.get("outside") or {}, part(r, "sealed", "sets") or {}
    return section(
        "When it does not answer",
        say("A text is given no label where it is further than {} outside what was learnt.",
            decimal(a.get("threshold"))),
        say("Fitted out of fold so that it costs at most {} of the texts their right answer; there "
            "it cost {} of {}.", pct(part(a, "fitted", "max_wrong_rejections")),
            count(part(a, "fitted", "n_right_rejected")), count(part(a, "fitted", "n"))),
        say("Sealed texts that have a label: {} are answered, {} of these answers are right; with "
            "rejections counted as errors, {} are right.", pct(a.get("coverage")),
            pct(a.get("accuracy")), pct(a.get("net_accuracy"))),
        say("Sealed texts that have none: {} of {} are rejected (95 % interval {}).",
            pct(outside.get("recall")), count(outside.get("n")), span(outside)),
        say("Sets of labels, asked to hold the true one for {}: they hold it for {} of the sealed "
            "texts, with {} labels on average.", pct(sets.get("asked")), pct(sets.get("coverage")),
            decimal(sets.get("mean_size"))),
        plot=coverage_plot,
        caption="Accuracy of what is answered, when the texts furthest outside are not.",
    )  # fmt: skip


def _confusions(r: Row) -> Section:
    rows = rows_of(r, "sealed", "confusions")
    return section(
        "Confusions",
        "No message was taken for another class." if rows == [] else None,
        table=table_of(
            rows and rows[:10], ("True class", "true", text), ("Taken for", "predicted", text),
            ("Count", "count", count), ("Of the class", "share", pct),
            ("Example", "example", quote),
        ),
        plot=confusion_plot,
        caption="True class (rows) and predicted class (columns) of the most confused classes, in "
        "messages. Pairs rarer than those listed are blank; grey is right.",
    )  # fmt: skip


def _worst(r: Row) -> Section:
    rows = rows_of(r, "sealed", "worst")
    return section(
        "Most confident errors",
        "No error." if rows == [] else "Wrong labels in the data often show up here."
        if rows else None,
        table=table_of(rows and rows[:10], ("Text", "text", quote), ("True class", "true", text),
                       ("Taken for", "predicted", text), ("Confidence", "probability", pct)),
    )  # fmt: skip


def _whole(r: Row) -> Section:
    s = r.get("sealed") or {}
    return section(
        "Whole answers",
        say("{} of the texts are answered exactly as wanted.", pct(s.get("exact"))),
        say("{} spans were wanted.", count(s.get("n_spans"))),
        *_forms(s),
    )


def _forms(sealed: Row) -> list[str | None]:
    rows = rows_of(sealed, "forms") or []
    return [
        say("F1 {} on {} spans of " + f"{text(row.get('name'))}.", pct(row.get("f1")),
            count(row.get("n")))
        for row in rows
    ]  # fmt: skip


def _cuts(r: Row) -> Section:
    cuts = part(r, "fitted", "cuts")
    rows = [{"label": k, "cut": v} for k, v in cuts.items()] if isinstance(cuts, dict) else None
    return section(
        "Cuts",
        "A label is given where its logit is above its cut; the cuts were fitted out of fold."
        if rows else None,
        table=table_of(rows, ("Label", "label", text), ("Cut", "cut", decimal)),
    )  # fmt: skip


def _span_errors(r: Row) -> Section:
    rows = rows_of(r, "sealed", "span_errors")
    return section(
        "Spans found wrongly or missed",
        "None." if rows == [] else "The first of them, in the order of the texts."
        if rows else None,
        table=table_of(rows, ("Text", "text", quote), ("Span", "span", quote),
                       ("Label", "label", text), ("Error", "error", text)),
    )  # fmt: skip


def _fields(r: Row) -> Section:
    rows = rows_of(r, "sealed", "per_field")
    ranked = sorted(rows or [], key=lambda x: _order(x.get("f1")))
    told = [x for x in ranked if x.get("said") is not None]
    seldom = ", ".join(str(text(x.get("label"))) for x in told if x["said"] < 0.5)
    return section(
        "Fields, worst first",
        say("{} values were wanted; {} of the records are right in every field.",
            count(part(r, "sealed", "n_values")), pct(part(r, "sealed", "exact"))),
        "Said: the share of values in training that their text says. The others cannot be learned: "
        "the model copies, it does not infer." if told else None,
        say("Less than half is said of: {}.", seldom or None),
        table=table_of(ranked, ("Field", "label", text), ("Type", "type", text), ("n", "n", count),
                       ("Precision", "precision", pct), ("Recall", "recall", pct),
                       ("F1", "f1", pct), ("Said", "said", pct)),
    )  # fmt: skip


def _field_errors(r: Row) -> Section:
    rows = rows_of(r, "sealed", "field_errors")
    return section(
        "Fields read wrongly",
        "None." if rows == [] else "The first of them, in the order of the texts."
        if rows else None,
        table=table_of(rows, ("Text", "text", quote), ("Field", "field", text),
                       ("Wanted", "wanted", quote), ("Said", "said", quote)),
    )  # fmt: skip


def _numbers(r: Row) -> Section:
    s = r.get("sealed") or {}
    return section(
        "Misses",
        say("A number is off by {} on average, by {} in the median.", given(s.get("mean_miss")),
            given(s.get("median_miss"))),
        say("The interval of plus and minus {} was asked to hold for {} and holds for {}.",
            given(s.get("half_width")), pct(part(s, "coverage", "asked")),
            pct(part(s, "coverage", "got"))),
        table=table_of(rows_of(r, "sealed", "misses"), ("Text", "text", quote),
                       ("True", "true", given), ("Said", "said", given)),
    )  # fmt: skip


def _search(r: Row) -> Section:
    s, f = r.get("sealed") or {}, r.get("fitted") or {}
    recall = s.get("recall") or {}
    shares = {1.0: "BM25 answers alone", 0.0: "learned vectors answer alone"}
    how = shares.get(f.get("bm25_share", -1.0)) or say(
        "a score is {} BM25, the rest is the cosine of learned vectors", pct(f.get("bm25_share"))
    )
    return section(
        "Passages found",
        say("A right passage comes first for {} of the sealed queries, is among 5 for {}, among 10 "
            "for {}.", *(pct(recall.get(k)) for k in ("1", "5", "10"))),
        say("How much BM25 counts was fitted out of fold: {}.", how if f else None),
        say("There BM25 alone has {}{}.", pct(f.get("bm25_alone")),
            say(", vectors alone {}", pct(f.get("vectors_alone"))) or ""),
        say("Queries without a right passage among 10: {}.", count(s.get("n_missed"))),
        table=table_of(rows_of(r, "sealed", "missed"), ("Query", "text", quote),
                       ("First passage given", "first", text)),
    )  # fmt: skip


def _bits(r: Row) -> Section:
    s = r.get("sealed") or {}
    beside = [
        x | {"bits": decimal(8 * (1 - x["score"]))}
        for x in [{"name": "this model", "score": s.get("score")}, *(rows_of(r, "baselines") or [])]
        if isinstance(x.get("score"), float)
    ]
    return section(
        "Bits per byte",
        say("A byte of the {} sealed ones costs {} bits, the end of a text counted as a byte; 8 "
            "would be no knowledge at all.", count(s.get("n_bytes")),
            decimal(s.get("bits_per_byte"))),
        table=table_of(beside, ("Model", "name", text), ("Bits per byte", "bits", given)),
    )  # fmt: skip


def _samples(r: Row) -> Section:
    c = part(r, "about", "copied") or {}
    shown = [{"text": t} for t in part(r, "about", "samples") or []]
    return section(
        "What it writes",
        say("Of {} texts (temperature 0.8, seeds 0, 1, ...), {} differ from one another, {} are no "
            "training text, and {} are one word for word.", count(c.get("n")),
            count(c.get("n_distinct")), count(c.get("n_new")), count(c.get("n_whole"))),
        say("The longest run that stands in a training text has {} characters: {}.",
            count(c.get("longest")), quote(c.get("run"))),
        table=table_of(shown, ("The first of them", "text", quote)),
    )  # fmt: skip


def _surprising(r: Row) -> Section:
    return section(
        "Sealed texts that it foresaw the least",
        table=table_of(rows_of(r, "sealed", "surprising"), ("Text", "text", quote),
                       ("Bits per byte", "bits_per_byte", decimal)),
    )  # fmt: skip


def _order(value: float | None) -> tuple[bool, float]:
    return value is None, value or 0.0


LABELS = (_classes, _calibration, _abstention, _confusions, _worst)
BY_KIND = {  # what a report says of the answers, by kind of task
    "extract": (_fields, _field_errors),
    "generate": (_bits, _samples, _surprising),
    "multilabel": (_whole, _classes, _cuts),
    "regress": (_numbers,),
    "retrieve": (_search,),
    "tag": (_whole, _classes, _span_errors),
}
