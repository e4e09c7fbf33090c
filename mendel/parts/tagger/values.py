"""Written forms to values: dates, numbers, amounts of money. Standard library only.

"5th of March, 2024" -> "2024-03-05"    "1.234,50" -> 1234.5    "€ 12" -> "12.00 EUR"
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal

MAX_DIGITS = 18  # of a number; longer ones are names of something

_MONTHS = (  # English, German, French, Spanish; then short ones
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "jan feb mär apr mai jun jul aug sept okt nov dez",
)
MONTHS = {name: i for names in _MONTHS for i, name in enumerate(names.split(), 1)}
_WEEKDAYS = (
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday|mon|tues?|wed|thu(?:rs)?|fri|sat|sun"
    "|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag"
    "|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche"
    "|lunes|martes|miércoles|jueves|viernes|sábado|domingo"
)
_YEAR = r"(?P<y>[0-9]{4}|'?[0-9]{2})"
_NAME = r"(?P<name>[^\W\d_]+)\.?"
_BEFORE = rf"(?:(?:{_WEEKDAYS})\.?,? )?(?:the |der |den |le |el )?"
_DAY = r"(?P<d>[0-9]{1,2})"
_ORDINAL = rf"{_DAY}(?:st|nd|rd|th|er|\.)?"
_MIDNIGHT = r"(?:[t ]00:00(?::00(?:\.0+)?)?z?)?"  # how tables write a day
_OF = r"(?: (?:of|de|del)\b)?"
DATES = [
    re.compile(pattern)
    for pattern in (
        rf"(?P<y>[0-9]{{4}})(?P<mark>[-/.])(?P<m>[0-9]{{1,2}})(?P=mark){_DAY}{_MIDNIGHT}",
        rf"{_BEFORE}(?P<a>[0-9]{{1,2}})(?P<mark>[-/.]) ?(?P<b>[0-9]{{1,2}})(?P=mark) ?{_YEAR}",
        rf"{_BEFORE}{_ORDINAL}{_OF}[ -]?{_NAME},?{_OF}[ -]?{_YEAR}",
        rf"{_BEFORE}{_NAME} (?:the )?{_ORDINAL},? {_YEAR}",
    )
]

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = {
    **{"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70},
    **{"eighty": 80, "ninety": 90},
}
NUMBER_WORDS = {
    **{word: i for i, word in enumerate(_UNITS)},
    **_TENS,
    **{f"{ten} {_UNITS[i]}": n + i for ten, n in _TENS.items() for i in range(1, 10)},
    **{name: 100 for name in ("hundred", "a hundred", "one hundred")},
}
NUMBER = re.compile(r"(?P<sign>[-+−]?) ?(?P<digits>[0-9][0-9.,'’ ]*?) ?%?")
GROUPED = re.compile(r"[0-9]{1,3}(?:[ '’][0-9]{3})+(?:[.,][0-9]+)?")
ONE_MARK = re.compile(r"[0-9]{1,3}(?P<mark>[.,])[0-9]{3}")  # 1.234: thousands, or decimals?

_CODES = (
    "aud brl cad chf cny czk dkk eur gbp hkd huf idr ils inr jpy krw mxn myr nok nzd php pln ron "
    "rub sek sgd thb try twd uah usd vnd zar"
)
CURRENCIES = {
    **{code: code.upper() for code in _CODES.split()},
    **{"€": "EUR", "$": "USD", "us$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB"},
    **{"₩": "KRW", "zł": "PLN", "₴": "UAH", "₺": "TRY", "₪": "ILS", "a$": "AUD", "c$": "CAD"},
    **{"euro": "EUR", "euros": "EUR", "dollar": "USD", "dollars": "USD", "us dollars": "USD"},
    **{"bucks": "USD", "pound": "GBP", "pounds": "GBP", "yen": "JPY", "rupees": "INR"},
    **{"franken": "CHF", "francs": "CHF", "yuan": "CNY"},
}
_CURRENCY = "|".join(re.escape(name) for name in sorted(CURRENCIES, key=len, reverse=True))
AMOUNTS = [
    re.compile(rf"(?P<money>{_CURRENCY}) ?(?P<number>.*[0-9])"),
    re.compile(rf"(?P<number>.*?[0-9]) ?(?P<money>{_CURRENCY})"),
    re.compile(rf"(?P<number>[^\W\d]+(?:[ -][^\W\d]+)?) (?P<money>{_CURRENCY})"),
]


def squeezed(text: str) -> str:
    """Without white space at its ends, one space for each run of it inside."""
    return " ".join(text.split())


def date_of(text: str, *, month_first: bool = False) -> str | None:
    """A day of a year as ISO 8601; None for no date, one without a year, and 31/02.

    month_first   whether 3/5/2024 is the fifth of March
    """
    written = squeezed(text).casefold().strip(".,;: ")
    for pattern in DATES:
        if found := pattern.fullmatch(written):
            return _day(found.groupdict(), month_first)
    return None


def _day(parts: dict[str, str | None], month_first: bool) -> str | None:
    day, month, name = parts.get("d"), parts.get("m"), parts.get("name")
    if name is not None:
        month = str(MONTHS.get(name, 0))
    elif day is None:
        day, month = (parts["b"], parts["a"]) if month_first else (parts["a"], parts["b"])
    year = str(parts["y"]).lstrip("'")
    century = 0 if len(year) == 4 else 2000 if int(year) < 69 else 1900  # as POSIX has it
    try:
        return datetime.date(century + int(year), int(month or 0), int(day or 0)).isoformat()
    except ValueError:
        return None


def number_of(text: str, *, comma: bool = False) -> int | float | None:
    """1,234.5 and 1.234,5 and 1 234 and twenty-five; None for anything else.

    comma   whether the mark in 1.234 and 1,234 parts decimals when it is a comma, else a point
    """
    found = _decimal(squeezed(text).casefold(), comma)
    if found is None:
        return None
    return int(found) if found == found.to_integral_value() else float(found)


def amount_of(text: str) -> str | None:
    """A number and a currency, before or behind it, as "1234.50 EUR"; None for anything else.

    Three digits behind a single mark are thousands: money has no third decimal.
    """
    written = squeezed(text).casefold()
    for pattern in AMOUNTS:
        found = pattern.fullmatch(written)
        number = _decimal(found["number"], None) if found else None
        if found and number is not None:
            cents = number.quantize(Decimal("0.01"))
            return f"{cents if cents == number else number} {CURRENCIES[found['money']]}"
    return None


def _decimal(written: str, comma: bool | None) -> Decimal | None:
    words = written.replace("-", " ")
    if words in NUMBER_WORDS:
        return Decimal(NUMBER_WORDS[words])
    found = NUMBER.fullmatch(written)
    digits = _plain(found["digits"], comma) if found else None
    if not found or digits is None or len(digits) > MAX_DIGITS:
        return None
    return Decimal(("-" if found["sign"] in ("-", "−") else "") + digits)


def _plain(digits: str, comma: bool | None) -> str | None:
    """The digits with a point for the decimals and nothing else; None where marks make no sense."""
    if GROUPED.fullmatch(digits):
        return re.sub("[ '’]", "", digits).replace(",", ".")
    marks = re.findall("[.,]", digits)
    if not digits.replace(".", "").replace(",", "").isdigit():
        return None
    if len(set(marks)) < 2 and len(marks) != 1:
        return _thousands(digits, marks[0]) if marks else digits
    alone = ONE_MARK.fullmatch(digits)
    if alone and digits[0] != "0" and (alone["mark"] == ",") is not comma:
        return digits.replace(alone["mark"], "")
    head, mark, tail = digits[: digits.rindex(marks[-1])], marks[-1], digits.rsplit(marks[-1])[-1]
    whole = _thousands(head, "," if mark == "." else ".")
    return f"{whole}.{tail}" if whole and tail else None


def _thousands(digits: str, mark: str) -> str | None:
    """Groups of three put together."""
    is_grouped = re.fullmatch(rf"[0-9]+|[0-9]{{1,3}}(?:\{mark}[0-9]{{3}})+", digits)
    return digits.replace(mark, "") if is_grouped else None
