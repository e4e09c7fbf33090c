"""The technical file: the headings of Annex IV of the EU AI Act, filled with the report's facts.

What the report does not know is said to be not known: a person has to add it.
source   Regulation (EU) 2024/1689, Annex IV, points 1 to 9
"""

from __future__ import annotations

from mendel.emit.section import Section, section
from mendel.emit.values import (
    Row,
    Table,
    count,
    decimal,
    duration,
    given,
    ms,
    part,
    pct,
    rows_of,
    say,
    size,
    span,
    table_of,
    text,
    times,
)

UNKNOWN = "not known"
ABOUT = (
    "Made from the facts of report.json alone, under the headings of Annex IV of Regulation (EU) "
    "2024/1689. What is marked as not known a person has to add. It is no declaration of "
    "conformity and no legal advice; whether the regulation asks for such a file depends on the "
    "use."
)

WATCHED = ("classify", "pair", "tag")  # kinds whose projects have the alarm


def technical(report: Row) -> list[Section]:
    """Sections of the technical file, by the numbers of the annex."""
    return [maker(report) for maker in (
        _general, _development, _data, _tests, _oversight, _metrics, _risks, _changes, _rest,
    )]  # fmt: skip


def _fact(name: str, value: str | None) -> str:
    return f"{name}: {value or UNKNOWN}."


def _pairs(facts: object) -> str | None:
    if not isinstance(facts, dict):
        return None
    return ", ".join(f"{text(k)} {text(v)}" for k, v in facts.items()) or None


def _general(r: Row) -> Section:
    labels = part(r, "task", "labels") or []
    return section(
        "1. General description",
        _fact("Intended purpose", (text(part(r, "task", "description")) or "").rstrip(".")),
        _fact("Kind of task", text(part(r, "task", "kind"))),
        _fact("Labels", ", ".join(str(text(x)) for x in labels) or None),
        _fact("Provider, and who answers for it", None),
        _fact("Version", text(part(r, "reproduce", "line"))),
        _fact("Versions of software", _pairs(part(r, "reproduce", "versions"))),
        _fact("Form", "a folder with the model, its code and its tests; a command, a Python "
              "library and an HTTP service (README.md has the instructions for use)"),
        _fact("Hardware it is meant for", "one core of a processor; no network"),
        _fact("Hardware it was made on", _pairs(part(r, "reproduce", "machine"))),
        _fact("Interaction with other systems", None),
    )  # fmt: skip


def _development(r: Row) -> Section:
    s = r.get("shipped") or {}
    return section(
        "2. Development: methods, design, architecture",
        _fact("Method", "candidates were trained on parts of the training rows and compared on the "
              "rest; the one that ships was chosen by those scores, and then tested on rows that "
              "had been sealed before any of it (report.md lists every candidate)"),
        _fact("Model", text(s.get("name"))),
        _fact("Family", text(s.get("family"))),
        _fact("Parameters", count(s.get("n_params"))),
        _fact("Size", size(s.get("model_bytes"))),
        _fact("Settings of the recipe", _pairs(s.get("recipe"))),
        _fact("Why this one", (text(s.get("chosen")) or "").rstrip(".")),
        _fact("Trained on", text(s.get("trained_on"))),
        _fact("Computing time", duration(part(r, "time", "spent_s"))),
        _fact("Cybersecurity", "weights are read as data and nothing is unpickled; files are "
              "checked by sha256; the service listens to its own machine unless it is given a key"),
    )  # fmt: skip


def _data(r: Row) -> Section:
    d = r.get("data") or {}
    faults = ", ".join(
        f"{count(x.get('count'))} {text(x.get('kind'))}" for x in rows_of(d, "faults") or []
    )
    return section(
        "2 (d). Data",
        _fact("Rows", say("{}; {} to train on, {} sealed for the test ({})", count(d.get("rows")),
              count(d.get("n_train")), count(d.get("n_sealed")), text(d.get("sealed_from")))),
        _fact("Provenance, as stated", text(d.get("provenance"))),
        _fact("How they were collected and labelled, and by whom", None),
        _fact("Faults that were found", faults or "none" if rows_of(d, "faults") is not None
              else None),
        _fact("Sealed rows with a near-duplicate in training", count(d.get("near_duplicates"))),
        _fact("Personal data in them", f"{UNKNOWN} here; mendel check DATA looks for some"),
        _fact("Digest of the rows", text(part(r, "reproduce", "data_digest"))),
        table=table_of(
            rows_of(d, "sources"), ("Input", "name", text), ("File", "file", text),
            ("Size", "bytes", size), ("SHA-256", "sha256", text), ("Licence", "licence", text),
        ),
    )  # fmt: skip


def _tests(r: Row) -> Section:
    s, status = r.get("sealed") or {}, r.get("status") or {}
    score = say(
        "{} (95 % interval {}) on {} sealed rows, opened {} so far",
        pct(s.get("score")), span(s), count(s.get("n")), times(s.get("opened")),
    )  # fmt: skip
    beside = [say("{} {}", text(x.get("name")), pct(x.get("score")))
              for x in rows_of(r, "baselines") or []]  # fmt: skip
    return section(
        "2 (g). Tests",
        _fact(f"{text(r.get('metric')) or 'Score'}", score),
        _fact("Verified on real data", "yes" if status.get("verified") is True else "NO"),
        _fact("Why", text(status.get("reason"))),
        _fact("Beside it, on the same rows", ", ".join(b for b in beside if b) or None),
        _fact("Calibration error (ECE)", decimal(part(s, "calibration", "after", "ece"))),
        _fact("Latency, median", ms(part(r, "latency", "p50_ms"))),
        _fact("Tests that travel with it", "tests/, run by python -m pytest"),
        table=_changed_texts(r),
    )


def _changed_texts(r: Row) -> Table | None:
    return table_of(
        rows_of(r, "behaviour", "tests"), ("Text written otherwise", "name", text),
        ("Texts", "n", count), ("Answer stays", "share", pct),
    )  # fmt: skip


def _oversight(r: Row) -> Section:
    a = part(r, "sealed", "abstention") or {}
    return section(
        "2 (e) and 3. Limits, monitoring and human oversight",
        _fact("Where it does not answer", say(
            "it gives no label to a text too far outside what was learnt ({} of the sealed texts "
            "with a label are answered)", pct(a.get("coverage")))),
        _fact("Texts without a label that it finds", pct(part(a, "outside", "recall"))),
        _fact("What a person can look at", "the words that decided: predict.py --why"
              if r.get("behaviour") else None),
        _fact("Monitoring in use", "a line in the log when texts are no longer like those of "
              "training" if text(part(r, "task", "kind")) in WATCHED else None),
        _fact("Who oversees it, and how", None),
        _fact("Groups of people that it works worse for", "not known, but for the slices below"),
        table=table_of(
            [x | {"span": span(x)} for x in (rows_of(r, "slices") or [])[:20]],
            ("By", "by", text), ("Slice", "slice", text), ("n", "n", count),
            ("Score", "score", pct), ("95 % interval", "span", given),
        ),
    )  # fmt: skip


def _metrics(r: Row) -> Section:
    return section(
        "4. Whether the measures are the right ones",
        _fact("Measure", text(r.get("metric"))),
        _fact("Why it fits the purpose, and what each kind of error costs", None),
    )


def _risks(r: Row) -> Section:
    return section(
        "5. Risks",
        _fact("A risk management system (Article 9)", None),
        "Risks that are known of such models: it answers texts that it was not taught for; it "
        "copies what is unjust or wrong in its data; it is wrong without being unsure; its data "
        "ages.",
        _fact("Most confident errors in the test", count(len(rows_of(r, "sealed", "worst") or []))
              if rows_of(r, "sealed", "worst") is not None else None),
    )  # fmt: skip


def _changes(r: Row) -> Section:
    return section(
        "6. Changes",
        _fact("First made as", text(part(r, "reproduce", "line"))),
        _fact("Changes since", "it was made from an earlier model; report.md says which answers "
              "changed" if r.get("changes") else "none in this file; a model that is trained again "
              "has another line and another file"),
    )  # fmt: skip


def _rest(r: Row) -> Section:
    return section(
        "7 to 9. Standards, declaration, monitoring plan",
        _fact("Harmonised standards applied", None),
        _fact("EU declaration of conformity", None),
        _fact("Plan for monitoring after it is in use (Article 72)", None),
    )
