"""What each section of a report says, in plain prose and tables.

Whatever the report lacks is left out or said to be not measured. Nothing is escaped here.
Longer than most files: one short function a section, in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Callable

from mendel.emit.origins import cost_line, licence_line
from mendel.emit.plots import confusion_plot, coverage_plot, ladder_plot, reliability_plot
from mendel.emit.section import Section
from mendel.emit.section import section as _section
from mendel.emit.values import (
    MAX_ROWS,
    Row,
    braced,
    count,
    decimal,
    duration,
    either,
    examples,
    given,
    ms,
    part,
    pct,
    points,
    quantity,
    quote,
    rows_of,
    say,
    short,
    size,
    span,
    table_of,
    text,
    yes,
)
from mendel.emit.weaknesses import weaknesses


def sections(report: Row) -> list[Section]:
    """What the report says, in the order of who needs it."""
    answers = OF_KIND.get(str(part(report, "task", "kind")), OF_LABELS)
    return [
        *_told(report, _shipped, _limits, _baselines, _claims),
        *weaknesses(report),
        *_told(report, *answers, _ladder, _data, _faults, _speed, _time, _reproduce),
    ]


def _told(report: Row, *makers: Callable[[Row], Section]) -> list[Section]:
    made = [maker(report) for maker in makers]
    return [
        s if s.lines or s.table or s.code else Section(s.title, ("Not measured.",)) for s in made
    ]


def title(r: Row) -> str:
    return text(r.get("title")) or "Report of a design run"


def metric(r: Row) -> str:
    return text(r.get("metric")) or "accuracy"


def _shipped(r: Row) -> Section:
    s, task = r.get("shipped") or {}, text(part(r, "task", "description"))
    recipe = ", ".join(f"{text(k)}={text(v)}" for k, v in (s.get("recipe") or {}).items())
    traits = (
        say("family {}", text(s.get("family"))),
        say("{} parameters", count(s.get("n_params"))),
        size(s.get("model_bytes")),
        text(s.get("form")),
    )
    has = ", ".join(trait for trait in traits if trait)
    error = say(" ± {} points", points(s.get("oof_se"))) or ""
    return _section(
        "The model",
        say("Task: {}", None if task == title(r) else task),
        say("Ships {}" + (f" ({braced(has)})." if has else "."), text(s.get("name"))),
        say("Why: {}.", (text(s.get("chosen")) or "").rstrip(".") or None),
        say("Selected by its {} of {}{} on {}.", metric(r), pct(s.get("oof_score")), error,
            text(s.get("fitted_on")) or "rows it had not seen"),
        say("Trained on: {}.", text(s.get("trained_on"))),
        say("Macro F1 on the sealed data: {}.", pct(part(r, "sealed", "macro_f1"))),
        say("Recipe: {}.", recipe or None),
    )  # fmt: skip


def _limits(r: Row) -> Section:
    rows, asked = rows_of(r, "limits"), part(r, "task", "limits")
    none_asked = isinstance(asked, dict) and all(value is None for value in asked.values())
    if rows == [] or (rows is None and none_asked):
        return _section("Limits", "No limit was set.")
    shown = [
        row | {k: quantity(row.get("limit"), row.get(k)) for k in ("wanted", "got")}
        for row in rows or []
    ]
    return _section(
        "Limits",
        table=table_of(
            shown, ("Limit", "limit", text), ("Wanted", "wanted", given), ("Got", "got", given),
            ("Met", "met", yes), ("Note", "note", text),
        ),
    )  # fmt: skip


def _baselines(r: Row) -> Section:
    rows = rows_of(r, "baselines")
    own = (r.get("sealed") or {}) | (r.get("shipped") or {})
    name = text(own.get("name")) or "shipped model"
    seconds = [x.get("seconds") for x in rows_of(r, "ladder") or [] if x.get("name") == name]
    own |= {"name": f"{name} (this model)", "seconds": seconds[0] if seconds else None}
    shown = [x | {"span": span(x)} for x in [own, *rows]] if rows else None
    return _section(
        "Baselines",
        f"{metric(r)}, all on the same sealed texts. What a difference shows is said under Claims."
        if shown else None,
        table=table_of(
            shown, ("Model", "name", text), ("Score", "score", pct),
            ("95 % interval", "span", given), ("Parameters", "n_params", count),
            ("Training", "seconds", duration),
        ),
    )  # fmt: skip


def _claims(r: Row) -> Section:
    rows, judge = rows_of(r, "claims"), r.get("judge") or {}
    shown = [
        x | {"allowed": either(x.get("allowed"), "may be said", "not shown")} for x in rows or []
    ]
    return _section(
        "Claims",
        "No claim was asked for." if rows == [] else None,
        say("The judge: {} confirmations begun on this task so far, {} kept; false discoveries "
            "are held below {}.", count(judge.get("n_begun")), count(judge.get("n_kept")),
            pct(judge.get("alpha"))),
        table=table_of(shown, ("Claim", "text", text), ("Verdict", "allowed", text),
                       ("Reason", "reason", text)),
    )  # fmt: skip


def _classes(r: Row) -> Section:
    rows = rows_of(r, "sealed", "per_class")
    ranked = sorted(rows or [], key=lambda x: _order(x.get("f1")))
    weak = [say("{} (F1 {})", text(x.get("label")), pct(x.get("f1"))) for x in ranked[:3]]
    return _section(
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
    return _section(
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
    return _section(
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
    return _section(
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
    return _section(
        "Most confident errors",
        "No error." if rows == [] else "Wrong labels in the data often show up here."
        if rows else None,
        table=table_of(rows and rows[:10], ("Text", "text", quote), ("True class", "true", text),
                       ("Taken for", "predicted", text), ("Confidence", "probability", pct)),
    )  # fmt: skip


def _whole(r: Row) -> Section:
    s = r.get("sealed") or {}
    return _section(
        "Whole answers",
        say("{} of the texts are answered exactly as wanted.", pct(s.get("exact"))),
        say("{} spans were wanted.", count(s.get("n_spans"))),
    )


def _cuts(r: Row) -> Section:
    cuts = part(r, "fitted", "cuts")
    rows = [{"label": k, "cut": v} for k, v in cuts.items()] if isinstance(cuts, dict) else None
    return _section(
        "Cuts",
        "A label is given where its logit is above its cut; the cuts were fitted out of fold."
        if rows else None,
        table=table_of(rows, ("Label", "label", text), ("Cut", "cut", decimal)),
    )  # fmt: skip


def _span_errors(r: Row) -> Section:
    rows = rows_of(r, "sealed", "span_errors")
    return _section(
        "Spans found wrongly or missed",
        "None." if rows == [] else "The first of them, in the order of the texts."
        if rows else None,
        table=table_of(rows, ("Text", "text", quote), ("Span", "span", quote),
                       ("Label", "label", text), ("Error", "error", text)),
    )  # fmt: skip


def _numbers(r: Row) -> Section:
    s = r.get("sealed") or {}
    return _section(
        "Misses",
        say("A number is off by {} on average, by {} in the median.", given(s.get("mean_miss")),
            given(s.get("median_miss"))),
        say("The interval of plus and minus {} was asked to hold for {} and holds for {}.",
            given(s.get("half_width")), pct(part(s, "coverage", "asked")),
            pct(part(s, "coverage", "got"))),
        table=table_of(rows_of(r, "sealed", "misses"), ("Text", "text", quote),
                       ("True", "true", given), ("Said", "said", given)),
    )  # fmt: skip


def _ladder(r: Row) -> Section:
    name, rows = part(r, "shipped", "name"), rows_of(r, "ladder")
    shown = [
        x | {"name": f"{x['name']} (shipped)" if name and x.get("name") == name else x.get("name")}
        | {"score": say("{}{}", pct(x.get("score")),
                           say(" ± {}", points(x.get("se"))) or "")}
        for x in rows or []
    ]  # fmt: skip
    return _section(
        "Everything that was tried",
        "Selected by these scores, which are not of the sealed data and claim nothing."
        if shown else None,
        table=table_of(
            shown, ("Model", "name", text), ("Family", "family", text), ("Rounds", "rounds", count),
            ("Score", "score", given), ("Parameters", "n_params", short),
            ("Size", "model_bytes", size), ("Latency", "latency_ms", ms),
            ("Time", "seconds", duration), ("Decision", "decision", text),
            ("Reason", "reason", text),
        ),
        plot=ladder_plot,
        caption="The scores of the table, with one standard error, against size; models more "
        "than 15 points below the best are not drawn.",
    )  # fmt: skip


def _data(r: Row) -> Section:
    d, labels = r.get("data") or {}, part(r, "task", "labels")
    classes = say(" in {} classes", count(len(labels))) if labels else ""
    return _section(
        "Data",
        say("{} rows{}: {} to train on, {} sealed{}.", count(d.get("rows")), classes,
            count(d.get("n_train")), count(d.get("n_sealed")),
            say(" ({})", text(d.get("sealed_from"))) or ""),
        say("Provenance: {}.", text(d.get("provenance"))),
        say("Given besides: {}.", ", ".join(
            f"{name} {given(n)}" for name, n in (d.get("given") or {}).items() if n) or None),
        licence_line(d),
        say("Sealed rows with a near-duplicate in training: {}.", count(d.get("near_duplicates"))),
        say("Score on the {} others: {}.", count(part(r, "sealed", "far", "n")),
            pct(part(r, "sealed", "far", "score"))) if d.get("near_duplicates") else None,
    )  # fmt: skip


def _faults(r: Row) -> Section:
    rows = rows_of(r, "data", "faults")
    return _section(
        "Faults of the data",
        "None was found." if rows == [] else None,
        table=table_of(rows, ("Fault", "kind", text), ("Count", "count", count),
                       ("Rows", "rows", examples), ("Note", "note", text)),
    )  # fmt: skip


def _speed(r: Row) -> Section:
    facts = (
        ("latency, median", ms(part(r, "latency", "p50_ms"))),
        ("latency, p95", ms(part(r, "latency", "p95_ms"))),
        ("latency, p99", ms(part(r, "latency", "p99_ms"))),
        ("latency, median, every word new", ms(part(r, "latency", "p50_cold_ms"))),
        ("throughput", say("{} texts/s", count(part(r, "resources", "texts_per_s")))),
        ("load time", duration(part(r, "resources", "load_s"))),
        ("peak memory", say("{} MB", count(part(r, "resources", "peak_mb")))),
        ("model", size(part(r, "resources", "model_bytes"))),
        ("whole project", size(part(r, "resources", "project_bytes"))),
    )
    rows = [{"name": name, "value": value} for name, value in facts if value is not None]
    return _section(
        "Speed and size",
        cost_line(r),
        table=table_of(rows, ("Measure", "name", text), ("Value", "value", given)),
    )


def _time(r: Row) -> Section:
    t = r.get("time") or {}
    return _section(
        "Time",
        say("Spent {}{}.", duration(t.get("spent_s")),
            say(" of a budget of {}", duration(t.get("budget_s"))) or ""),
        say("First usable model after {}.", duration(t.get("first_usable_s"))),
        table=table_of(rows_of(r, "time", "stages"), ("Stage", "name", text),
                       ("Time", "seconds", duration)),
    )  # fmt: skip


def _reproduce(r: Row) -> Section:
    p, command = r.get("reproduce") or {}, text(part(r, "reproduce", "command"))
    listed = [
        say(f"{title}: {{}}.",
            ", ".join(f"{text(k)} {text(v)}" for k, v in (p.get(key) or {}).items()) or None)
        for key, title in (("versions", "Versions"), ("machine", "Machine"))
    ]  # fmt: skip
    return _section(
        "To reproduce",
        say("Seed {}.", text(p.get("seed"))),
        say("Line of the ledger: {}.", text(p.get("line"))),
        say("Digest of the data: {}.", text(p.get("data_digest"))),
        *listed,
        code=(command,) if command else (),
    )


def _order(value: float | None) -> tuple[bool, float]:
    return value is None, value or 0.0


OF_LABELS = (_classes, _calibration, _abstention, _confusions, _worst)
OF_KIND = {  # what a report says of the answers, by kind of task
    "multilabel": (_whole, _classes, _cuts),
    "regress": (_numbers,),
    "tag": (_whole, _classes, _span_errors),
}
