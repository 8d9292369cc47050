"""What all values are drawn with: a generator of chance, a split, Faker's locales."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

from training.values.lists import LATIN, OTHER_SCRIPTS, listed, locales, pool


class Drawn:
    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split = rng, split

    def _from(self, method: str, locale: str | None = None) -> str:
        for _ in range(8):
            where = locale or self.locale()
            found = pool(method, self.split, where)
            if found:
                return self.rng.choice(found)
            locale = None
        return self.rng.choice(pool(method, self.split, "en_US"))

    def locale(self) -> str:
        known = locales()
        draw = self.rng.random()
        if draw < 0.42:
            return self.rng.choice(["en_US", "en_US", "en_US", "en_GB", "en_CA", "en_AU", "en_IN"])
        names = [n for n in (OTHER_SCRIPTS if draw > 0.975 else LATIN) if n in known]
        return self.rng.choice(names)

    def _fresh(self, method: str) -> str:
        """A number as one locale writes it."""
        fake = locales()[self.locale()]
        if not hasattr(fake, method):
            fake = locales()["en_US"]
        fake.seed_instance(self.rng.getrandbits(32))
        return str(getattr(fake, method)())

    def digits(self, pattern: str) -> str:
        """`#` becomes a digit, `@` a capital letter, `?` a small one, `*` either or a digit."""
        any_of = string.ascii_letters + string.digits
        return "".join(
            self.rng.choice(string.digits)
            if c == "#"
            else self.rng.choice(string.ascii_uppercase)
            if c == "@"
            else self.rng.choice(string.ascii_lowercase)
            if c == "?"
            else self.rng.choice(any_of)
            if c == "*"
            else c
            for c in pattern
        )

    def one(self, patterns: Sequence[str]) -> str:
        return self.digits(self.rng.choice(patterns))

    def word(self) -> str:
        return self.rng.choice(listed("words", self.split))
