"""Names of people of many cultures, whole and in parts."""

from __future__ import annotations

import string

from training.values.drawn import Drawn
from training.values.lists import listed


class People(Drawn):
    def first(self, locale: str | None = None) -> str:
        if locale is None and self.rng.random() < 0.4:
            return self.rng.choice(listed("given", self.split))
        return self._from("first_name", locale)

    def last(self, locale: str | None = None) -> str:
        if locale is None and self.rng.random() < 0.4:
            return self.rng.choice(listed("family", self.split))
        if locale is None and self.rng.random() < 0.04:
            return self._made_up()
        name = self._from("last_name", locale)
        if self.rng.random() < 0.03:
            name += "-" + self._from("last_name", locale)
        return name

    def _made_up(self) -> str:
        """A surname nobody listed: rare names must be found by where they stand."""
        onset, vowel, coda = (
            "b br ch d dr f g gr h j k kl l m n p pr r s sh st t tr v w z zh".split(),
            "a e i o u ai ei ou ia".split(),
            "n r s l k t m nd rt ch sk".split(),
        )
        word = "".join(self.rng.choice(onset) + self.rng.choice(vowel) for _ in range(self.rng.randint(1, 3))) + self.rng.choice(
            ["", self.rng.choice(coda)]
        )
        return word.capitalize()

    def name(self) -> tuple[str, str]:
        """Given and family name of one culture (or of two)."""
        if self.rng.random() < 0.35:
            return self.first(), self.last()
        where = self.locale()
        return self.first(where), self.last(where)

    def full(self, name: tuple[str, str]) -> str:
        first, last = name
        form = self.rng.random()
        if form < 0.69:
            return f"{first} {last}"
        if form < 0.72:
            return f"{first} {last}{self.rng.choice([' Jr.', ', Jr.', ' III', ' II', ' Sr.', '-' + self.last()])}"
        if form < 0.80:
            return f"{first} {self.rng.choice(string.ascii_uppercase)}{self.rng.choice(['.', ''])} {last}"
        if form < 0.86:
            return f"{first} {self.first()} {last}"
        if form < 0.92:
            return f"{last}, {first}"
        if form < 0.95:
            return f"{first[0]}. {last}"
        return f"{first} {last.upper()}" if form < 0.97 else f"{last} {first}"

    def short(self, name: tuple[str, str]) -> str:
        """Initials, as a note has them."""
        a, b = name[0][0].upper(), name[1][0].upper()
        return self.rng.choice([f"{a}.{b}.", f"{a}{b}", f"{a}. {b}.", f"{a}.{self.rng.choice(string.ascii_uppercase)}.{b}.", f"{a}.{b}"])
