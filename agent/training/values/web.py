"""Mail addresses, domains, pages, user names, addresses of machines, phone numbers, passwords."""

from __future__ import annotations

from training.values.people import People


class Web(People):
    def phone(self) -> str:
        if self.rng.random() < 0.4:
            return self._fresh("phone_number")
        return self.one(
            [
                "(###) ###-####",
                "###-###-####",
                "###.###.####",
                "+1 ### ### ####",
                "+1-###-###-####",
                "+44 ## #### ####",
                "0## #### ####",
                "07### ######",
                "+49 ### #######",
                "+33 # ## ## ## ##",
                "+91 ##### #####",
                "##########",
                "1-800-###-####",
                "+## ## ### ####",
                "###-####",
                "(0##) ####-####",
                "+61 # #### ####",
                "ext. ####",
                "0####/######",
                "+86 ### #### ####",
            ]
        )

    def email(self, name: tuple[str, str] | None = None) -> str:
        first, last = name or self.name()
        first, last = ("".join(c for c in part.lower() if c.isalnum()) for part in (first, last))
        local = self.rng.choice(
            [
                f"{first}.{last}",
                f"{first[:1]}{last}",
                f"{first}{self.rng.randint(1, 99)}",
                f"{first}_{last}",
                f"{last}.{first[:1]}",
                first,
                f"{self.word()}.{first}",
            ]
        )
        return f"{local}@{self.domain()}"

    def domain(self) -> str:
        name = self.rng.choice(
            [
                self.word(),
                self.word() + self.word(),
                f"{self.word()}-{self.word()}",
                "".join(c for c in self.last().lower() if c.isalnum()),
                self.rng.choice(["gmail", "yahoo", "outlook", "hotmail", "icloud", "proton"]),
            ]
        )
        return f"{name}.{self.rng.choice('com com com org net edu io co.uk de fr it es gov info biz health me app ca au nl'.split())}"

    def url(self) -> str:
        return (
            self.rng.choice(["https://", "http://", "www.", "https://www.", ""])
            + self.domain()
            + self.rng.choice(["", "/", f"/{self.word()}", f"/{self.word()}/{self.first().lower()}", f"/~{self.first().lower()}"])
        )

    def user(self) -> str:
        first, last = ("".join(c for c in part.lower() if c.isalnum()) for part in self.name())
        return self.rng.choice(
            [
                f"{first[:1]}{last}",
                f"{first}{self.rng.randint(1, 999)}",
                f"{first}_{last}",
                f"@{first}{last}",
                f"{self.word()}_{first}",
                f"{last}{first[:1]}{self.rng.randint(1, 99)}",
                f"@{self.word()}{self.rng.randint(1, 99)}",
            ]
        )

    def ip(self) -> str:
        numbers = [str(self.rng.randint(1, 254)) for _ in range(4)]
        if self.rng.random() < 0.8:
            return ".".join(numbers)
        return (
            ":".join(f"{self.rng.getrandbits(16):x}" for _ in range(8))
            if self.rng.random() < 0.6
            else f"fe80::{self.rng.getrandbits(16):x}:{self.rng.getrandbits(16):x}"
        )

    def password(self) -> str:
        word, name = self.word(), self.first()
        return self.rng.choice(
            [
                f"{word.capitalize()}{self.rng.randint(1, 2030)}{self.rng.choice('!@#$%')}",
                self.one(["********", "??##??##", "*******!", "@??????##!", "************"]),
                f"{name}{self.rng.randint(1, 99)}",
                f"{word}-{self.word()}-{self.word()}",
                f"{word}{self.rng.randint(100, 9999)}",
                f"{word.capitalize()}@{self.rng.randint(1, 999)}",
                f"P@ss{self.digits('####')}",
                self.one(["*****#*?*@#*", "?#?#@*!*"]),
            ]
        )
