"""What each section of a report says, in plain prose and tables.

Whatever the report lacks is left out or said to be not measured. Nothing is escaped here.
One short function a section; answered.py has those on the answers, by kind of task.
"""

from __future__ import annotations

from collections.abc import Callable

from mendel.emit.answered import BY_KIND, LABELS
from mendel.emit.origins import cost_line, licence_line
from mendel.emit.plots import ladder_plot
from mendel.emit.section import Section, section
from mendel.emit.values import (
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
    answers = BY_KIND.get(str(part(report, "task", "kind")), LABELS)
    again = (_repair,) if report.get("repair") else ()
    changed = (_changes, _flows) if report.get("changes") else ()
    return [
        *_told(report, _shipped, *again, _limits, _baselines, _claims, *changed),
        *weaknesses(report),
        *_told(report, *answers, _start, _ladder, _data, _faults, _speed, _time, _reproduce),
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
    return section(
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
        return section("Limits", "No limit was set.")
    shown = [
        row | {k: quantity(row.get("limit"), row.get(k)) for k in ("wanted", "got")}
        for row in rows or []
    ]
    return section(
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
    return section(
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
    return section(
        "Claims",
        "No claim was asked for." if rows == [] else None,
        say("The judge: {} confirmations begun on this task so far, {} kept; false discoveries "
            "are held below {}.", count(judge.get("n_begun")), count(judge.get("n_kept")),
            pct(judge.get("alpha"))),
        table=table_of(shown, ("Claim", "text", text), ("Verdict", "allowed", text),
                       ("Reason", "reason", text)),
    )  # fmt: skip


def _repair(r: Row) -> Section:
    rows = [
        x | {"moved": points(x.get("change")), "least": points(x.get("low"))}
        for x in rows_of(r, "repair", "looked") or []
    ]
    return section(
        "Errors mended",
        say("{}.", (text(part(r, "repair", "reason")) or "").rstrip(".") or None),
        say("{} errors were given that the model before made. An error counts as fixed where the "
            "model that answers it was not trained on it.", count(part(r, "repair", "n_errors"))),
        table=table_of(
            rows, ("Candidate", "name", text), ("Errors fixed", "n_fixed", count),
            ("Old rows, points", "moved", text), ("At least", "least", text),
            ("Passes", "passed", yes),
        ),
    )  # fmt: skip


def _changes(r: Row) -> Section:
    sealed = part(r, "changes", "sealed") or {}
    rows = [
        x | (x.get("labelled") or {}) | {"moved": part(x, "shift", "mean")}
        for x in rows_of(r, "changes", "groups") or []
    ]
    return section(
        "What changes",
        say("Beside {}, which this model goes on from.", text(part(r, "changes", "before"))),
        say("Of the {} sealed rows {} were wrong before and are right now, {} were right and are "
            "wrong now.", count(sealed.get("n")), count(sealed.get("fixed")),
            count(sealed.get("broken"))),
        table=table_of(
            rows, ("Texts", "name", text), ("n", "n", count), ("Answers that change", "share", pct),
            ("Wrong -> right", "fixed", count), ("Right -> wrong", "broken", count),
            ("Number beside moves by", "moved", decimal), ("Note", "note", text),
        ),
    )  # fmt: skip


def _flows(r: Row) -> Section:
    groups = rows_of(r, "changes", "groups") or []
    rows = [flow | {"name": x.get("name")} for x in groups for flow in x.get("flows") or []]
    return section(
        "Answers that change",
        "None." if not rows else None,
        table=table_of(sorted(rows, key=lambda x: -x["count"]), ("Before", "from", text),
                       ("Now", "to", text), ("Count", "count", count), ("Texts", "name", text),
                       ("Example", "example", quote)),
    )  # fmt: skip


def _start(r: Row) -> Section:
    steps = rows_of(r, "start", "steps")
    shown = [
        x | {"gain": "a known loser" if x.get("when") == "last" else pct(x.get("gain"))}
        for x in steps or []
    ]
    return section(
        "What it started from",
        *(text(line) for line in part(r, "start", "why") or ()),
        "Gains are shares of the linear model's errors, as earlier runs on held-out folds led to "
        "expect; no sealed score is among what they rest on." if shown else None,
        table=table_of(shown, ("Recipe", "name", text), ("Expected", "gain", given),
                       ("A round", "seconds", duration), ("Runs", "n_seen", count),
                       ("Why", "why", text)),
    )  # fmt: skip


def _ladder(r: Row) -> Section:
    name, rows = part(r, "shipped", "name"), rows_of(r, "ladder")
    shown = [
        x | {"name": f"{x['name']} (shipped)" if name and x.get("name") == name else x.get("name")}
        | {"score": say("{}{}", pct(x.get("score")),
                           say(" ± {}", points(x.get("se"))) or "")}
        for x in rows or []
    ]  # fmt: skip
    return section(
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
    return section(
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
    return section(
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
    return section(
        "Speed and size",
        cost_line(r),
        table=table_of(rows, ("Measure", "name", text), ("Value", "value", given)),
    )


def _time(r: Row) -> Section:
    t = r.get("time") or {}
    return section(
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
    return section(
        "To reproduce",
        say("Seed {}.", text(p.get("seed"))),
        say("Line of the ledger: {}.", text(p.get("line"))),
        say("Digest of the data: {}.", text(p.get("data_digest"))),
        *listed,
        code=(command,) if command else (),
    )
