"""Why each kind of finding matters, and what to do about it."""

from __future__ import annotations

FAULTY = (
    "The reader mended this by a guess, and a guess can be wrong.",
    "Mend these rows in the file, or look at them and accept the guess.",
)
PERSONAL = (
    "Models keep words of their training texts, and the file is passed around with them.",
    "Replace each by a placeholder such as <email>, or be sure that you may use it.",
)
SECRET = (
    "Whoever gets the file can use it; a model can give it away too.",
    "Revoke it where it was issued, then take it out of the file.",
)
ADVICE: dict[str, tuple[str, str]] = {  # kind -> why it matters, what to do
    "duplicate": (
        "Repeated rows count more than once, and can stand on both sides of a split.",
        "Keep one of each, unless the counts are as in real use.",
    ),
    "conflict": (
        "No model can be right on both; each such text caps the score.",
        "Decide which label is right, or ask whether the two classes are one.",
    ),
    "empty": (
        "There is nothing to learn from; the row is left out.",
        "Fill the cell, or delete the row.",
    ),
    "label-spelling": (
        "One class under two names is learned as two, each with fewer rows.",
        "Write the label in one way, or rename one if two classes are meant.",
    ),
    "small-class": (
        "Fewer than 5 rows do not cover the ways to say it, nor every fold; a single row cannot "
        "be split and is left out.",
        "Add rows, or join it with a class that is near.",
    ),
    "imbalance": (
        "Models lean to the large class, and accuracy hides errors in the small one.",
        "Add rows of the small class; judge by the score of each class.",
    ),
    "near-duplicate": (
        "What was seen in training is asked again in the test, so the score is too good.",
        "Move or delete the rows on one side, or let mendel split: it keeps them together.",
    ),
    "unseen-label": (
        "No model can give a label that it never saw: each such row is an error.",
        "Add training rows with the label, correct its spelling, or drop the test rows.",
    ),
    "suspicious-label": (
        "A model of the other rows hardly believes these labels; wrong labels teach errors.",
        "Read each one: correct the label where it is wrong, leave it where it is right.",
    ),
    "mixed-language": (
        "Words of a language with few rows are hardly learned, and scores hide it.",
        "Sort the rows out, add more of them, or look at the score of each language.",
    ),
    "e-mail": PERSONAL,
    "phone": PERSONAL,
    "iban": PERSONAL,
    "payment-card": PERSONAL,
    "ip-address": PERSONAL,
    "private-key": SECRET,
    "jwt": SECRET,
    "api-key": SECRET,
}
