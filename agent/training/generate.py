"""Makes texts with known spans: draws a template, fills its slots, roughens it, sometimes joins several into a document.

A template is one line of templates/*.txt: `{slot}` is filled by SLOTS, `[[a|b]]` is either, `<<part>>` is one line of parts/part.txt, `\\n` a
new line. A template and a line of a part belong to one split by a checksum of themselves; the families in HELD_OUT are for test as a whole. The
same seed gives the same texts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.labels import NOTHING, TERM, mask
from training.values import Values
from training.values.lists import listed, split_of

TEMPLATES = Path(__file__).parent / "templates"
HELD_OUT = ("travel", "education", "rounds", "library")
"""Families of templates that training never sees."""
PARTS = Path(__file__).parent / "parts"
_PART = re.compile(r"<<([a-z]+)>>")
_CHOICE = re.compile(r"\[\[([^\[\]]*)\]\]")
_SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Made:
    """A text and its spans (start, end, label). family: the file of its template."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    family: str


class Cast:
    """The people and things of one text: the same slot names the same one throughout."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self._people: dict[str, tuple[str, str]] = {}

    def who(self, role: str) -> tuple[str, str]:
        if role not in self._people:
            self._people[role] = self.values.name()
        return self._people[role]

    def fill(self, slot: str) -> tuple[str, str]:
        """The value of a slot and its label."""
        if (
            person := re.fullmatch(
                r"(person|person2|person3|patient|patient2|staff|staff2|staff3)(?:_(first|last|email|initials|short|user|csv))?", slot
            )
        ) is not None:
            role, part = person.groups()
            name = self.who(role)
            label = {"pa": "phi.identifier", "st": "pii.staff"}.get(role[:2], "pii.person")
            if part == "email":
                return self.values.email(name), "pii.contact"
            if part == "user":
                return self.values.user(), "pii.contact"
            if part == "csv":
                return f"{name[0]} {name[1]}", label
            if part == "short":
                return self.values.short(name), label
            if part == "initials":
                return f"{name[0][0]}.{name[1][0]}.", label
            return {"first": name[0], "last": name[1], None: self.values.full(name)}[part], label
        draw, label = SLOTS[slot]
        return draw(self.values), label


def _of(name: str) -> Callable[[Values], str]:
    return lambda values: values.rng.choice(listed(name, values.split))


def _method(name: str) -> Callable[[Values], str]:
    return lambda values: str(getattr(values, name)())


def _words(*words: str) -> Callable[[Values], str]:
    return lambda values: values.rng.choice(words)


def _amount(values: Values) -> str:
    number = values.rng.choice([f"{values.rng.uniform(1, 90000):,.2f}", f"{values.rng.randint(1, 9000)}"])
    return values.rng.choice([f"${number}", f"€{number}", f"{number} EUR", f"£{number}", f"USD {number}", f"{number} dollars"])


def _title(values: Values) -> str:
    return values.rng.choice(
        ["Mr.", "Mr.", "Mrs.", "Ms.", "Miss", "Mr", "Mrs", "Ms", "Dr.", "Prof.", "Sir", "Madam", "Herr", "Frau", "Mme", "Señora", "Rev."]
    )


def _doctor(values: Values) -> str:
    return values.rng.choice(["Dr.", "Dr.", "Dr.", "Dr", "Prof.", "Doctor"])


def _code(values: Values) -> str:
    """An identifier of things, of nobody: an error, an order of parts, a version."""
    return values.one(
        [
            "ERR-####",
            "v#.#.#",
            "JIRA-####",
            "SKU-#####",
            "#.##.#",
            "0x########",
            "HTTP ###",
            "PR #####",
            "RFC ####",
            "ISO ####",
            "build ####",
            "commit ?#?##??",
            "E####",
        ]
    )


SLOTS: dict[str, tuple[Callable[[Values], str], str]] = {
    "title": (_title, "pii.demographic"), "dr": (_doctor, "pii.demographic"), "nrp": (_of("demographics"), "pii.demographic"),
    "city": (_method("city"), "pii.location"), "country": (_method("country"), "pii.location"), "state": (_method("state"), "pii.location"),
    "street": (_method("street"), "pii.location"), "zip": (_method("postcode"), "pii.location"), "address": (_method("address"), "pii.location"),
    "org": (_method("org"), "pii.organisation"), "org2": (_method("org"), "pii.organisation"), "hospital": (_method("hospital"), "pii.organisation"),
    "phone": (_method("phone"), "pii.contact"), "email": (_method("email"), "pii.contact"), "url": (_method("url"), "pii.contact"),
    "domain": (_method("domain"), "pii.contact"), "ip": (_method("ip"), "pii.contact"), "user": (_method("user"), "pii.contact"),
    "mrn": (_method("mrn"), "phi.identifier"), "healthid": (_method("healthid"), "phi.identifier"), "dob": (_method("birth"), "phi.identifier"),
    "birth": (_method("birth"), "pii.date"), "date": (_method("date"), "pii.date"), "date2": (_method("date"), "pii.date"), "when": (_method("when"), "pii.date"),
    "place": (_method("place"), "pii.location"), "street0": (_method("road"), "pii.location"), "street_de": (_method("street_de"), "pii.location"),
    "street_fr": (_method("street_fr"), "pii.location"), "street_es": (_method("street_es"), "pii.location"), "street_it": (_method("street_it"), "pii.location"),
    "soon": (_words("today", "tonight", "tomorrow", "tomorrow morning", "next week", "this evening", "Monday", "this weekend"), "pii.date"),
    "rel_de": (_words("gestern", "heute", "morgen", "letzte Woche", "Montag", "vorgestern", "letzten Monat"), "pii.date"),
    "herr": (_words("Herr", "Frau", "Herrn", "Dr.", "Prof."), "pii.demographic"), "mme": (_words("Monsieur", "Madame", "M.", "Mme", "Mlle"), "pii.demographic"),
    "senor": (_words("señor", "Señora", "Sr.", "Sra.", "Don", "Doña"), "pii.demographic"),
    "rel": (_method("lately"), "pii.date"), "month": (_method("month"), "pii.date"), "when4": (_method("year"), "pii.date"),
    "date_de": (_method("date_de"), "pii.date"), "date_fr": (_method("date_fr"), "pii.date"), "date_es": (_method("date_es"), "pii.date"),
    "old": (_method("old"), "pii.age"), "vin": (_method("vin"), "pii.government"),
    "age": (_method("age"), "pii.age"), "years": (_method("years"), "pii.age"),
    "ssn": (_method("ssn"), "pii.government"), "gov": (_method("government"), "pii.government"),
    "account": (_method("account"), "financial.account"), "card": (_method("card"), "financial.account"), "crypto": (_method("crypto"), "financial.account"),
    "password": (_method("password"), "credential.password"),
    "dx": (_of("diseases"), "phi.clinical"), "dx2": (_of("diseases"), "phi.clinical"), "dx3": (_of("diseases"), "phi.clinical"), "icd": (_method("icd"), "phi.clinical"),
    "lab": (_method("lab"), "phi.clinical"), "lab2": (_method("lab"), "phi.clinical"), "vital": (_method("vital"), "phi.clinical"), "vital2": (_method("vital"), "phi.clinical"),
    "med": (_method("medication"), "phi.clinical"), "med2": (_method("medication"), "phi.clinical"), "proc": (_of("procedures"), "phi.clinical"),
    "t_dx": (_of("diseases"), TERM), "t_dx2": (_of("diseases"), TERM), "t_med": (_method("drug"), TERM), "t_med2": (_method("drug"), TERM), "t_proc": (_of("procedures"), TERM), "t_icd": (_method("icd"), TERM),
    "t_lab": (_method("lab"), TERM), "t_vital": (_method("vital"), TERM), "dose": (_method("dose"), NOTHING), "lab_name": (_method("lab_name"), NOTHING),
    "abbr": (_of("abbreviations"), NOTHING),
    "society": (_of("societies"), NOTHING), "trial": (_of("trials"), NOTHING), "score": (_of("scores"), NOTHING), "year": (_method("year"), NOTHING),
    "work": (_of("works"), NOTHING), "product": (_of("products"), NOTHING), "version": (lambda v: v.one(["#.#", "#.#.#", "##", "##.##", "v#"]), NOTHING),
    "room": (lambda v: v.one(["#", "##", "###", "#@", "#-@", "##@", "@#"]), NOTHING),
    "n_age": (_method("years"), "pii.age"), "amount": (_amount, NOTHING), "job": (_of("jobs"), NOTHING), "dept": (_of("departments"), NOTHING), "dept2": (_of("departments"), NOTHING), "dept3": (_of("departments"), NOTHING),
    "code": (_code, NOTHING), "word": (_method("word"), NOTHING), "n": (lambda v: str(v.rng.randint(1, 99)), NOTHING), "num": (lambda v: v.one(["###", "####", "#####", "#.##"]), NOTHING),
}  # fmt: skip


def fill(template: str, rng: random.Random, split: str, family: str = "") -> Made:
    """One text of a template."""
    begins = template.startswith("<<")
    while (part := _PART.search(template)) is not None:
        template = template[: part.start()] + rng.choice(fragments(part.group(1), split)) + template[part.end() :]
    template = template.replace("\\n", "\n").replace("\\t", "\t")
    while (choice := _CHOICE.search(template)) is not None:
        template = template[: choice.start()] + rng.choice(choice.group(1).split("|")) + template[choice.end() :]
    cast = Cast(Values(rng, split))
    parts: list[str] = []
    spans: list[tuple[int, int, str]] = []
    at = place = 0
    for slot in _SLOT.finditer(template):
        before = template[at : slot.start()]
        value, label = cast.fill(slot.group(1))
        parts += [before, value]
        start = place + len(before)
        place = start + len(value)
        if label != NOTHING:
            spans.append((start, place, label))
        at = slot.end()
    text = "".join(parts) + template[at:]
    if begins and rng.random() < 0.7 and len(text[:1].upper()) == 1:
        text = text[:1].upper() + text[1:]
    return Made(text, tuple(spans), family)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]


@cache
def fragments(name: str, split: str) -> tuple[str, ...]:
    """The lines of a part that belong to a split."""
    mine = tuple(line for line in _lines(PARTS / f"{name}.txt") if split_of(line) == split)
    if not mine:
        raise ValueError(f"parts/{name}.txt has no line for {split}")
    return mine


@cache
def templates(split: str) -> dict[str, tuple[str, ...]]:
    """The templates of a split, by family."""
    found = {}
    for path in sorted(TEMPLATES.glob("*.txt")):
        lines = _lines(path)
        if path.stem in HELD_OUT:
            mine = tuple(lines) if split == "test" else ()
        else:
            mine = tuple(line for line in lines if split_of(line) == split)
        if mine:
            found[path.stem] = mine
    return found


def roughen(made: Made, rng: random.Random) -> Made:
    """Written in haste: all small, all capitals, slips of the finger. Spans stay exact."""
    draw = rng.random()
    if draw < 0.13:
        return Made("".join(c.lower() if len(c.lower()) == 1 else c for c in made.text), made.spans, made.family)
    if draw < 0.17:
        return Made("".join(c.upper() if len(c.upper()) == 1 else c for c in made.text), made.spans, made.family)
    if draw < 0.19:
        return Made(
            "".join(c.upper() if len(c.upper()) == 1 and (i == 0 or made.text[i - 1] in " \n") else c for i, c in enumerate(made.text)),
            made.spans,
            made.family,
        )
    if draw < 0.27:
        return slips(made, rng)
    return made


def slips(made: Made, rng: random.Random) -> Made:
    """About one letter in forty doubled, dropped, or changed for its neighbour."""
    out: list[str] = []
    at = []
    for char in made.text:
        at.append(len(out))
        if char.isalpha() and rng.random() < 0.025:
            out += rng.choice([[], [char, char], [rng.choice("abcdefghijklmnopqrstuvwxyz")]])
        else:
            out.append(char)
    at.append(len(out))
    text = "".join(out)
    return Made(text, tuple((at[s], at[e], label) for s, e, label in made.spans if at[e] > at[s]), made.family)


WEIGHTS = {
    "harmless": 1.4,
    "questions": 1.4,
    "clinical": 2.2,
    "staff": 1.4,
    "prompts": 2.2,
    "records": 1.3,
    "prose": 1.8,
    "mail": 1.4,
    "code": 0.8,
    "bedside": 3.2,
    "vignettes": 2.8,
    "oneline": 3.4,
    "chats": 1.2,
    "works": 1.3,
    "letters": 1.2,
    "lives": 2.0,
    "numbers": 1.3,
}
TOGETHER = (
    ("clinical", "staff"),
    ("mail", "tickets", "prompts", "finance", "prose"),
    ("records", "code", "finance"),
    ("questions", "harmless", "vignettes", "works"),
    ("prose", "lives"),
    ("lives",),
    ("oneline", "harmless"),
    ("clinical", "bedside"),
    ("bedside", "vignettes"),
)


def stream(seed: int, split: str, join: float = 0.2) -> Iterator[Made]:
    """Endless texts of a split. join: how many of them are documents of several."""
    rng = random.Random(f"{seed}/{split}")
    by_family = templates(split)
    families = list(by_family)
    weights = [WEIGHTS.get(name, 1.0) * min(1.0, len(by_family[name]) / 8 + 0.2) for name in families]

    def one(among: list[str]) -> Made:
        family = rng.choices(among, [weights[families.index(name)] for name in among])[0]
        return fill(rng.choice(by_family[family]), rng, split, family)

    while True:
        if rng.random() >= join:
            yield roughen(one(families), rng)
            continue
        among = [name for name in rng.choice(TOGETHER) if name in by_family]
        if not among:
            continue
        between = rng.choice(["\n", "\n\n", " ", "\n- ", "\n---\n"])
        text, spans = "", []
        parts = [one(among) for _ in range(rng.randint(2, 6))]
        for made in parts:
            text += between if text else ""
            spans += [(s + len(text), e + len(text), label) for s, e, label in made.spans]
            text += made.text
        yield roughen(Made(text, tuple(spans), parts[0].family), rng)


def masks(made: Made) -> tuple[tuple[int, int, int], ...]:
    """The spans with masks of allowed labels in the labels' place."""
    return tuple((start, end, mask(label)) for start, end, label in made.spans)
