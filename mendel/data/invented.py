"""Phrases that Faker invents for labels whose names say what they are: people, places, companies.

label -> phrases, to stand in copies of training rows where a mention stood; never in a test set.
Needs Faker (mendel[design]) for labels that it knows; for others nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

N_PHRASES = 1_000
PROVIDERS = {  # name of a label, without its marks -> how Faker calls it
    **dict.fromkeys(("person", "per", "people", "name", "fullname", "customer"), "name"),
    **dict.fromkeys(("firstname", "forename", "givenname"), "first_name"),
    **dict.fromkeys(("lastname", "surname", "familyname"), "last_name"),
    **dict.fromkeys(("city", "town"), "city"),
    **dict.fromkeys(("country", "nation"), "country"),
    **dict.fromkeys(("company", "corporation", "organisation", "organization", "org"), "company"),
    **dict.fromkeys(("address", "postaladdress"), "street_address"),
    **dict.fromkeys(("job", "jobtitle", "profession"), "job"),
    **dict.fromkeys(("email", "emailaddress"), "email"),
    **dict.fromkeys(("phone", "phonenumber", "telephone"), "phone_number"),
}


def inventable(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels whose names say what Faker can invent."""
    return tuple(label for label in labels if _plain(label) in PROVIDERS)


def invented(labels: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Up to 1,000 phrases for each label that Faker knows; the same seed gives the same ones."""
    known = inventable(labels)
    if not known:
        return {}
    # imported here: it takes a third of a second, and most rounds fill nothing
    from faker import Faker

    found = {}
    for label in known:
        fake = Faker()
        fake.seed_instance(seed)
        made = {str(getattr(fake, PROVIDERS[_plain(label)])()) for _ in range(N_PHRASES)}
        found[label] = tuple(sorted(made))
    return found


def _plain(label: str) -> str:
    return re.sub(r"[\W_]", "", label).lower()
