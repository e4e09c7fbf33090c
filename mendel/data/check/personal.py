"""Personal data and secrets in a text: found by pattern, and by check digits where there are any.

text --find--> Secret, Secret, ... --mask--> the text without them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

KINDS = {  # secrets first
    "private-key": "private keys",
    "api-key": "keys of web services",
    "jwt": "signed tokens (JWT)",
    "payment-card": "payment cards (the check digit is right)",
    "iban": "bank accounts (IBAN, the check digits are right)",
    "e-mail": "e-mail addresses",
    "phone": "telephone numbers",
    "ip-address": "IP addresses",
}
KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
API_KEYS = (
    r"(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
    r"gh[pousr]_[A-Za-z0-9]{30,}",  # GitHub
    r"github_pat_\w{30,}",
    r"glpat-[\w-]{20,}",  # GitLab
    r"xox[abeoprs]-[\w-]{10,}",  # Slack
    r"AIza[\w-]{35}",  # Google
    r"sk-(?=[\w-]*\d)[\w-]{20,}",  # OpenAI, Anthropic; a digit, for "sk-" begins words too
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"hf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}",  # SendGrid
)
OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
PHONES = (
    r"00[1-9](?:[ ()./\u00a0-]{0,3}\d){6,13}",  # with its country
    r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}",  # North America
    r"(?!\d\d([/.-])\d\d\1\d)\(?0[1-9](?:[ ()/\u00a0-]{0,2}\d){7,10}",  # 0 first, and no date
)
WITH_PLUS = r"\+[1-9](?:[ ()./\u00a0-]{0,3}\d){6,13}"  # whatever number stands before it
IBAN = re.compile(r"\b(?=([A-Z]{2}\d\d(?:[ \u00a0-]?[A-Z0-9]){11,30}))", re.IGNORECASE | re.ASCII)
IBAN_LENGTHS = {
    length: countries.split()
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI",
        20: "AT BA EE KZ LT LU XK MN", 21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST",
        26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
}  # fmt: skip
LENGTH_OF = {country: n for n, countries in IBAN_LENGTHS.items() for country in countries}
CARD = re.compile(r"(?<!\d)(?=((?:\d[ \u00a0-]?){12,18}\d))", re.ASCII)
CARD_LENGTHS = {"2": (16,), "3": (16, 15, 14), "4": (19, 16, 13), "5": (16,), "6": (19, 18, 17, 16)}


class Secret(NamedTuple):
    kind: str
    start: int  # characters of the text
    end: int  # excluded
    value: str


def find(text: str) -> list[Secret]:
    """What is personal or secret, in the order of the text; no two overlap.

    cost     0.2 s for 10,000 short texts
    """
    found: list[Secret] = []
    left = text
    for kind, spans in FINDERS.items():
        pieces, at = [], 0
        for start, end in spans(left):
            if start >= at:
                found.append(Secret(kind, start, end, text[start:end]))
                pieces += [left[at:start], "\0" * (end - start)]
                at = end
        left = "".join([*pieces, left[at:]])
    return sorted(found, key=lambda secret: secret.start)


def mask(text: str) -> str:
    """The text with its kind in the place of each secret, wherever else it is repeated too."""
    found = find(text)
    for secret in reversed(found):
        text = f"{text[: secret.start]}[{secret.kind}]{text[secret.end :]}"
    for secret in found:
        text = text.replace(secret.value, f"[{secret.kind}]")
    return text


Spans = Callable[[str], Iterator[tuple[int, int]]]


def _pattern(pattern: str, flags: int = 0) -> Spans:
    compiled = re.compile(pattern, flags)

    def spans(text: str) -> Iterator[tuple[int, int]]:
        return (match.span() for match in compiled.finditer(text))

    return spans


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """By the length that its country has, and the check digits (ISO 13616, mod 97)."""
    for match in IBAN.finditer(text):
        country = match[1][:2].upper()
        end = _end(match[1], LENGTH_OF.get(country, 99))
        letters = "".join(filter(str.isalnum, match[1][:end])).upper()
        number = "".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])
        if end and int(number) % 97 == 1 and not text[match.start() + end :][:1].isalnum():
            yield match.start(), match.start() + end


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """By first digit, length and check digit (ISO 7812, Luhn)."""
    for match in CARD.finditer(text):
        for length in CARD_LENGTHS.get(match[1][0], ()):
            end = _end(match[1], length)
            after = text[match.start() + end :][:1]
            if end and not after.isdigit() and _luhn(match[1][:end]):
                yield match.start(), match.start() + end
                break


def _end(text: str, n: int) -> int:
    """Where the n-th letter or digit ends; 0 where there are fewer."""
    places = [i for i, letter in enumerate(text) if letter.isalnum()]
    return places[n - 1] + 1 if len(places) >= n else 0


def _luhn(text: str) -> bool:
    digits = [int(letter) for letter in text if letter.isdigit()][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) % 10


FINDERS: dict[str, Spans] = {  # what comes first is not looked for a second time
    "private-key": _pattern(rf"{KEY}.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.S),
    "jwt": _pattern(r"\beyJ[\w-]{5,}\.eyJ[\w-]{4,}\.[\w-]*", re.ASCII),
    "api-key": _pattern(rf"\b(?:{'|'.join(API_KEYS)})", re.ASCII),
    "e-mail": _pattern(r"(?<![\w.+'-])[\w.+'-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}"),
    "iban": _ibans,
    "payment-card": _cards,
    "ip-address": _pattern(rf"(?<![\w.])(?:{OCTET}\.){{3}}{OCTET}(?!\w|\.\d)", re.ASCII),
    "phone": _pattern(
        rf"(?<![\w+.,-])(?:{WITH_PLUS}|(?<!\d )(?:{'|'.join(PHONES)}))(?![\w])", re.ASCII
    ),
}
