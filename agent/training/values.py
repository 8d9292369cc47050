"""The values that fill a template's slots: names, numbers, addresses, clinical terms. Each split draws from lists of its own.

A list's value belongs to one split for good, by a checksum of itself: of ten, one is for test, one for dev, eight for training.
Numbers are made by chance and meet only by chance.
"""

from __future__ import annotations

import random
import string
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from faker import Faker

HERE = Path(__file__).parent
SPLITS = ("train", "dev", "test")
LATIN = (
    "en_US en_GB en_CA en_AU en_IE en_NZ en_IN en_KE en_NG en_PK en_TH de_DE de_AT de_CH fr_FR fr_CH fr_CA fr_BE es_ES es_MX es_AR es_CO es_CL pt_BR pt_PT "
    "it_IT nl_NL nl_BE sv_SE no_NO da_DK fi_FI pl_PL cs_CZ sk_SK hu_HU ro_RO hr_HR sl_SI tr_TR id_ID vi_VN fil_PH et_EE lt_LT lv_LV az_AZ "
    "zu_ZA yo_NG ha_NG ig_NG tw_GH fr_DZ ga_IE sq_AL uz_UZ fr_SN so_SO sw"
).split()
OTHER_SCRIPTS = "ru_RU uk_UA bg_BG el_GR ar_EG he_IL fa_IR hi_IN ja_JP zh_CN ko_KR ta_IN".split()


def split_of(value: str) -> str:
    """The split a listed value or a template belongs to."""
    return ("test", "dev")[digit] if (digit := zlib.crc32(value.lower().encode()) % 10) < 2 else "train"


def keep(values: Iterable[str], split: str) -> list[str]:
    """The values of a split, each once, in an order that does not change."""
    kept = sorted({v.strip() for v in values if v and v.strip() and split_of(v.strip()) == split})
    if not kept:
        raise ValueError(f"no value is left for {split}")
    return kept


@cache
def listed(name: str, split: str) -> list[str]:
    """The lines of lists/NAME.txt that belong to a split; `#` begins a comment."""
    lines = (HERE / "lists" / f"{name}.txt").read_text("utf-8").splitlines()
    return keep((line for line in lines if not line.startswith("#")), split)


@cache
def _locales() -> dict[str, Faker]:
    """A generator per locale that this Faker knows."""
    made = {}
    for name in LATIN + OTHER_SCRIPTS:
        try:
            made[name] = Faker(name)
        except (AttributeError, ImportError, ValueError):
            continue
    return made


@cache
def pool(method: str, split: str, locale: str, many: int = 400) -> list[str]:
    """Values of one of Faker's methods in one locale, of one split."""
    fake = _locales()[locale]
    fake.seed_instance(f"{method}/{locale}")
    values = []
    for _ in range(many):
        try:
            values.append(str(getattr(fake, method)()))
        except (AttributeError, NotImplementedError, IndexError):
            break
    mine = [v for v in dict.fromkeys(values) if split_of(v) == split]
    return sorted(mine)


class Values:
    """Draws values for one text. The same seed gives the same values."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split = rng, split

    # -- who

    def _from(self, method: str, locale: str | None = None) -> str:
        for _ in range(8):
            where = locale or self.locale()
            found = pool(method, self.split, where)
            if found:
                return self.rng.choice(found)
            locale = None
        return self.rng.choice(pool(method, self.split, "en_US"))

    def locale(self) -> str:
        known = _locales()
        draw = self.rng.random()
        if draw < 0.42:
            return self.rng.choice(["en_US", "en_US", "en_US", "en_GB", "en_CA", "en_AU", "en_IN"])
        names = [n for n in (OTHER_SCRIPTS if draw > 0.975 else LATIN) if n in known]
        return self.rng.choice(names)

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

    # -- where

    def place(self) -> str:
        """Somewhere, from a town to a country."""
        form = self.rng.random()
        if form < 0.45:
            return self.city()
        if form < 0.6:
            return self.country()
        if form < 0.7:
            return self.state()
        return f"{self.city()}, {self.state() if form < 0.87 else self.country()}"

    def road(self) -> str:
        """A street without a number."""
        name = self.rng.choice(
            [self.last(), self.first(), *(self.rng.choice(listed("streets", self.split)) for _ in range(4)), self.city()]
        )
        kind = "Street Street St Road Road Rd Avenue Avenue Ave Lane Drive Boulevard Blvd Way Court Place Terrace Square Parkway Highway Row Hill".split()
        return self.rng.choice(
            [f"{name} {self.rng.choice(kind)}"] * 7 + [f"rue {name}", f"Via {name}", f"Calle {name}", f"{name}straße", f"Avenida {name}"]
        )

    def street_de(self) -> str:
        name = self._from(self.rng.choice(["last_name", "city_name"]), "de_DE")
        kind = self.rng.choice(["straße", "str.", "weg", "gasse", "allee", "platz", "strasse", "ring", "-Straße", "damm"])
        return f"{name}{kind} {self.rng.randint(1, 190)}{self.rng.choice(['', '', '', 'a', 'b', ' c'])}"

    def street_fr(self) -> str:
        kind = self.rng.choice(["rue", "rue de", "avenue", "boulevard", "place", "impasse", "chemin de", "quai", "rue du", "allée"])
        number = f"{self.rng.randint(1, 190)}{self.rng.choice(['', '', ' bis', ' ter'])}{self.rng.choice([' ', ', '])}"
        return f"{number if self.rng.random() < 0.85 else ''}{kind} {self._from('last_name', 'fr_FR')}"

    def street_es(self) -> str:
        kind = self.rng.choice(["calle", "Calle", "C/", "avenida", "Avda.", "plaza", "Paseo de", "calle de"])
        return f"{kind} {self._from('last_name', 'es_ES')}{self.rng.choice([' ', ', ', ' n.º '])}{self.rng.randint(1, 150)}{self.rng.choice(['', '', ', 3º B', ', bajo'])}"

    def street_it(self) -> str:
        return f"{self.rng.choice(['via', 'Via', 'viale', 'piazza', 'corso'])} {self._from('last_name', 'it_IT')}{self.rng.choice([' ', ', '])}{self.rng.randint(1, 150)}"

    def city(self) -> str:
        if self.rng.random() < 0.6:
            return self.rng.choice(_cities(self.split))
        return self._from("city")

    def country(self) -> str:
        return self.rng.choice(listed("countries", self.split)) if self.rng.random() < 0.7 else self._from("country", "en_US")

    def state(self) -> str:
        return self._from(self.rng.choice(["state", "state_abbr"]), "en_US") if self.rng.random() < 0.7 else self._from("state")

    def street(self) -> str:
        form = self.rng.random()
        if form < 0.45:
            return self._from("street_address").replace("\n", ", ")
        road = self.rng.choice([self.last(), self.first(), self.rng.choice(listed("streets", self.split)), self.city()])
        kind = self.rng.choice(
            "Street St St. Road Rd Avenue Ave Ave. Lane Ln Drive Dr Boulevard Blvd Way Court Ct Place Terrace Close Crescent Square Parkway Highway Gardens Row Hill".split()
        )
        number = self.rng.choice(
            [str(self.rng.randint(1, 9999)), f"{self.rng.randint(1, 250)}{self.rng.choice('ABCab')}", str(self.rng.randint(1, 300))]
        )
        if form < 0.85:
            line = f"{number} {self.rng.choice(['', '', '', 'North ', 'S. ', 'West ', 'E '])}{road} {kind}"
        elif form < 0.93:
            line = self.rng.choice(
                [
                    f"{road}straße {number}",
                    f"{road}strasse {number}",
                    f"{number} rue {road}",
                    f"Calle {road} {number}",
                    f"Via {road}, {number}",
                    f"ul. {road} {number}",
                    f"Rua {road}, {number}",
                    f"{road}gatan {number}",
                    f"{road}laan {number}",
                ]
            )
        else:
            line = self.rng.choice(
                [
                    f"P.O. Box {number}",
                    f"PO Box {number}",
                    f"Flat {self.rng.randint(1, 90)}, {number} {road} {kind}",
                    f"{number}-{self.rng.randint(1, 20)}, {road} {kind}",
                ]
            )
        if self.rng.random() < 0.18:
            line += self.rng.choice([", Apt {n}", " Apt {n}", ", Suite {n}", " Unit {n}", ", Floor {n}", " #{n}", ", Apt. {n}B"]).replace(
                "{n}", str(self.rng.randint(1, 900))
            )
        return line

    def postcode(self) -> str:
        if self.rng.random() < 0.5:
            return self.rng.choice(
                [
                    f"{self.rng.randint(501, 99950):05d}",
                    f"{self.rng.randint(501, 99950):05d}",
                    f"{self.rng.randint(501, 99950):05d}-{self.rng.randint(1, 9999):04d}",
                ]
            )
        return self._fresh("postcode")

    def _fresh(self, method: str) -> str:
        """A number as one locale writes it."""
        fake = _locales()[self.locale()]
        if not hasattr(fake, method):
            fake = _locales()["en_US"]
        fake.seed_instance(self.rng.getrandbits(32))
        return str(getattr(fake, method)())

    def address(self) -> str:
        form = self.rng.random()
        street = self.street() if self.rng.random() < 0.86 else self.road()
        city, state, postcode, country = self.city(), self.state(), self.postcode(), self.country()
        if form < 0.35:
            return f"{street}, {city}, {state} {postcode}"
        if form < 0.5:
            return f"{street}, {city}"
        if form < 0.62:
            return f"{street}, {city}, {country}"
        if form < 0.74:
            return f"{street}\n{city}, {state} {postcode}" + self.rng.choice(["", f"\n{country}"])
        if form < 0.84:
            return f"{street}, {postcode} {city}" + self.rng.choice(["", f", {country}"])
        if form < 0.92:
            return f"{street}\n{postcode} {city}\n{country}"
        return f"{street} {city} {state} {postcode}"

    # -- organisations

    def org(self) -> str:
        form = self.rng.random()
        if form < 0.4:
            return self._from("company")
        if form < 0.55:
            return self.rng.choice(listed("organisations", self.split))
        last, city = self.last(), self.city()
        tail = self.rng.choice(listed("org_tails", self.split))
        return self.rng.choice(
            [
                f"{last} {tail}",
                f"{city} {tail}",
                f"{last} & {self.last()} {tail}",
                f"{last} {tail}",
                f"{last} and Sons",
                f"University of {city}",
                f"{city} University",
                f"Bank of {city}",
                f"{last} & {self.last()}",
                f"{city} City Council",
                f"{last} Group",
            ]
        )

    def hospital(self) -> str:
        city, saint = self.city(), self.first()
        return self.rng.choice(
            [
                f"{city} General Hospital",
                f"St. {saint} Hospital",
                f"St {saint}'s Medical Center",
                f"{city} Medical Center",
                f"{self.last()} Memorial Hospital",
                f"{city} University Hospital",
                f"{self.last()} Clinic",
                f"{city} Family Practice",
                f"Klinikum {city}",
                f"Hôpital {saint}",
                f"{city} Regional Medical Center",
                f"{self.last()} Cancer Institute",
                f"{city} Children's Hospital",
                f"{self.last()} Health",
                f"{city} Community Health Center",
                f"Royal {city} Infirmary",
                f"Mercy {city}",
            ]
        )

    # -- numbers

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

    def word(self) -> str:
        return self.rng.choice(listed("words", self.split))

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

    def mrn(self) -> str:
        return self.one(
            [
                "#######",
                "########",
                "######",
                "MRN#######",
                "MR-######",
                "@##-##-##",
                "##-##-##",
                "@@######",
                "00######",
                "#### ####",
                "PT-#####",
                "H########",
                "@@@-####-###",
                "P#####",
            ]
        )

    def healthid(self) -> str:
        return self.one(
            [
                "#@@#-@@#-@@##",
                "@@@#########",
                "### ### ####",
                "#########@",
                "@##########",
                "@@-#######-##",
                "HP-#######",
                "@@@########",
                "####-###-###-@@",
                "MBR######",
                "########-01",
            ]
        )

    def government(self) -> str:
        return self.one(
            [
                "###-##-####",
                "###-##-####",
                "### ## ####",
                "#########",
                "@########",
                "@@#######",
                "@######",
                "@@######@",
                "@###-####-####",
                "##-#######",
                "@### #### ####",
                "#### #### ####",
                "@@ ## ## ## @",
                "##########",
                "@@@@@######@@#@@",
                "### ### ###",
                "########@",
                "@@@@@####@",
                "######-####",
                "##.###.###-#",
                "###.###.###-##",
                "DL ########",
                "@@ #####",
                "@####-#####-#####",
                "@@@-##-####",
                "@### ####-####",
                "########",
                "@@######",
                "@@## @@@",
                "@@@ ####",
                "@-@@ ####",
                "############",
                "@@@@######@@@@@@##",
                "@@@@######@##",
                "@@@@@######@@@@##",
                "###########",
                "########-####",
                "@#######",
                "###-###-###",
                "@##-##-####",
            ]
        )

    def ssn(self) -> str:
        return (
            self.one(
                [
                    "###-##-####",
                    "###-##-####",
                    "###-##-####",
                    "### ## ####",
                    "#########",
                    "XXX-XX-####",
                    "xxx-xx-####",
                    "***-**-####",
                    "###.##.####",
                ]
            )
            if self.rng.random() < 0.95
            else self.one(["###-##-###"])
        )

    def account(self) -> str:
        return self.one(
            [
                "########",
                "##########",
                "############",
                "#########",
                "##-##-## ########",
                "#### ####",
                "ACC-#######",
                "AC######",
                "***####",
                "@@@@@@##",
                "@@@@@@##XXX",
                "CUST-#####",
                "C######",
                "####-####-##",
                "DE## #### #### #### #### ##",
                "GB## @@@@ #### #### #### ##",
                "@@####################",
                "FR## #### #### #### #### #### ###",
                "@@##@@@@##############",
            ]
        )

    def card(self) -> str:
        return self.one(
            [
                "4### #### #### ####",
                "5###-####-####-####",
                "4###############",
                "5###############",
                "3### ###### #####",
                "6011 #### #### ####",
                "3#############",
                "6###############",
                "XXXX XXXX XXXX ####",
                "4############",
            ]
        )

    def vin(self) -> str:
        return "".join(self.rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789") for _ in range(17))

    def crypto(self) -> str:
        return self.one(
            [
                "1*********************************",
                "3*********************************",
                "bc1?#??##????#??#?##?#????#??#?##?#????#??",
                "0x" + "".join(self.rng.choice("0123456789abcdef") for _ in range(40)),
            ]
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

    # -- time

    def date(self) -> str:
        rng = self.rng
        year, month, day = (
            rng.randint(1921, 2029) if rng.random() < 0.35 else rng.randint(2015, 2027),
            rng.randint(1, 12),
            rng.randint(1, 28),
        )
        long, short = MONTHS[month - 1], MONTHS[month - 1][:3]
        ordinal = f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
        return rng.choice(
            [
                f"{month:02d}/{day:02d}/{year}",
                f"{day:02d}/{month:02d}/{year}",
                f"{month}/{day}/{year % 100:02d}",
                f"{year}-{month:02d}-{day:02d}",
                f"{year}-{month:02d}-{day:02d}",
                f"{day:02d}.{month:02d}.{year}",
                f"{long} {day}, {year}",
                f"{long} {day}, {year}",
                f"{day} {long} {year}",
                f"{short} {day}, {year}",
                f"{short} {day}",
                f"{long} {ordinal}",
                f"{ordinal} of {long} {year}",
                f"{ordinal} {long}",
                f"{long} {year}",
                f"{day}-{short}-{year}",
                f"{day} {short} {year % 100:02d}",
                f"{rng.choice(DAYS)}, {long} {day}",
                f"{rng.choice(DAYS)}, {day} {long} {year}",
                f"{long} {day}",
                f"{year}/{month:02d}/{day:02d}",
                f"{day}.{month}.{year % 100:02d}",
                f"{year}-{month:02d}-{day:02d}T{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}Z",
                f"{month:02d}/{day:02d}/{year} {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
                f"{month:02d}-{day:02d}-{year}",
                f"{year}{month:02d}{day:02d}",
                f"{month}/{day}",
                f"{long.lower()} {day} {year}",
                f"{short.upper()} {day} {year}",
                f"the {ordinal} of {long}",
                f"{long} {ordinal}, {year}",
                f"{rng.choice(DAYS)} {ordinal} {long}",
                f"{rng.choice(DAYS)[:3]} {day} {short}",
                f"{long} of {year}",
                f"{short}. {day}, {year}",
                f"{month}.{day}.{year}",
                f"{day}/{month}",
                f"{year}",
            ]
        )

    def birth(self) -> str:
        rng = self.rng
        year, month, day = rng.randint(1921, 2024), rng.randint(1, 12), rng.randint(1, 28)
        long = MONTHS[month - 1]
        return rng.choice(
            [
                f"{month:02d}/{day:02d}/{year}",
                f"{day:02d}/{month:02d}/{year}",
                f"{year}-{month:02d}-{day:02d}",
                f"{day:02d}.{month:02d}.{year}",
                f"{long} {day}, {year}",
                f"{day} {long} {year}",
                f"{day}-{long[:3]}-{year}",
                f"{month}/{day}/{year % 100:02d}",
                f"{long[:3]} {day} {year}",
                f"{month:02d}-{day:02d}-{year}",
            ]
        )

    def when(self) -> str:
        """A date in words, a weekday, a year, a span, a time of day."""
        rng = self.rng
        hour = f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d} {rng.choice(['am', 'pm', 'AM', 'PM', 'a.m.'])}"
        return rng.choice(
            [
                rng.choice(DAYS),
                f"next {rng.choice(DAYS)}",
                f"last {rng.choice(DAYS)}",
                f"last {rng.choice(['week', 'month', 'year', 'spring', 'winter'])}",
                "yesterday",
                "tomorrow",
                f"{rng.randint(2, 11)} {rng.choice(['days', 'weeks', 'months', 'years'])} ago",
                f"in {rng.randint(1960, 2026)}"[3:],
                f"{rng.randint(1985, 2026)}",
                hour,
                f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
                f"{rng.randint(1, 12)}{rng.choice(['am', 'pm'])}",
                f"{rng.choice(DAYS)} {rng.choice(['morning', 'afternoon', 'evening'])}",
                f"{rng.choice(MONTHS)}",
                f"the {rng.choice('678')}0s"[4:],
                f"Q{rng.randint(1, 4)} {rng.randint(2019, 2027)}",
                f"{rng.choice(MONTHS)} {rng.randint(1950, 2026)}",
                f"{rng.choice(['early', 'late', 'mid'])} {rng.choice(MONTHS)}",
                f"{rng.choice(['spring', 'summer', 'autumn', 'winter'])} {rng.randint(1960, 2026)}",
                f"{rng.randint(1, 12)} o'clock",
                f"{rng.choice(['Christmas', 'Easter', 'Thanksgiving'])} {rng.randint(1990, 2026)}",
                "today",
                "tonight",
                f"{rng.choice(DAYS)} at {hour}",
            ]
        )

    def year(self) -> str:
        return str(self.rng.randint(1850, 2026) if self.rng.random() < 0.5 else self.rng.randint(1985, 2026))

    def month(self) -> str:
        return self.rng.choice(MONTHS)

    def lately(self) -> str:
        """When, counted from now or from the stay."""
        rng = self.rng
        some = rng.randint(2, 12)
        return rng.choice(
            [
                "yesterday", "today", "this morning", "last night", "this afternoon", "two days ago", "a week ago", "three weeks ago", "a month ago",
                f"{some} days ago", f"{some} weeks ago", f"{some} months ago", f"{some} hours ago", f"last {rng.choice(DAYS)}", f"on {rng.choice(DAYS)}"[3:],
                "last week", "last month", "last year", f"in {rng.choice(MONTHS)}"[3:], f"last {rng.choice(MONTHS)}", f"earlier this {rng.choice(['week', 'month', 'year'])}",
                f"{rng.choice(DAYS)} {rng.choice(['morning', 'night', 'evening'])}", f"{rng.randint(1, 12)}/{rng.randint(1, 28)}", f"{rng.choice(MONTHS)[:3]} {rng.randint(1, 28)}",
                f"the {rng.randint(4, 20)}th of {rng.choice(MONTHS)}", f"at {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"[3:],
            ]
        )  # fmt: skip

    def date_de(self) -> str:
        day, month, year = self.rng.randint(1, 28), self.rng.randint(1, 12), self.rng.randint(1940, 2027)
        name = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()[month - 1]
        return self.rng.choice(
            [
                f"{day}. {name} {year}",
                f"{day:02d}.{month:02d}.{year}",
                f"{day}.{month}.{year % 100:02d}",
                f"{day}. {name}",
                f"{name} {year}",
            ]
        )

    def date_fr(self) -> str:
        day, month, year = self.rng.randint(1, 28), self.rng.randint(1, 12), self.rng.randint(1940, 2027)
        name = "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split()[month - 1]
        return self.rng.choice(
            [f"{day} {name} {year}", f"{day:02d}/{month:02d}/{year}", f"{day} {name}", f"{name} {year}", f"1er {name} {year}"]
        )

    def date_es(self) -> str:
        day, month, year = self.rng.randint(1, 28), self.rng.randint(1, 12), self.rng.randint(1940, 2027)
        name = "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()[month - 1]
        return self.rng.choice([f"{day} de {name} de {year}", f"{day:02d}/{month:02d}/{year}", f"{day} de {name}", f"{name} de {year}"])

    def old(self) -> str:
        """A great age, as stands before a noun."""
        number = self.rng.randint(90, 106)
        return f"{number}{self.rng.choice(['-year-old', '-year-old', ' year old', ' yo', 'yo', ' y/o', '-yr-old'])}"

    def age(self) -> str:
        number = self.rng.choice([self.rng.randint(1, 99), self.rng.randint(18, 90), self.rng.randint(18, 90)])
        return self.rng.choice(
            [
                f"{number}",
                f"{number}",
                f"{number}-year-old",
                f"{number} years old",
                f"{number} year old",
                f"{number} years",
                f"{number}yo",
                f"{number} y/o",
                f"{number}-year old",
                f"{number} yrs",
                f"aged {number}"[5:],
            ]
        )

    def years(self) -> str:
        """An age as stands before a noun: 45-year-old."""
        number = self.rng.choice([self.rng.randint(1, 99), self.rng.randint(18, 90)])
        return self.rng.choice(
            [
                f"{number}-year-old",
                f"{number}-year-old",
                f"{number} year old",
                f"{number} yo",
                f"{number}yo",
                f"{number} y/o",
                f"{number}y",
                f"{number}-yr-old",
            ]
        )

    # -- clinical

    def dose(self) -> str:
        return f"{self.rng.choice([1, 2, 5, 10, 20, 25, 40, 50, 81, 100, 200, 250, 400, 500, 800, 1000])}{self.rng.choice([' mg', 'mg', ' mg', ' mcg', ' units', ' g'])}"

    def lab_name(self) -> str:
        return str(self.rng.choice(LABS)[0])

    def lab(self) -> str:
        """A measured value with its unit."""
        name, low, high, unit = self.rng.choice(LABS)
        value = self.rng.uniform(low, high)
        number = f"{value:.1f}" if high < 30 else f"{value:.0f}"
        return f"{name}{self.rng.choice([' ', ' ', ': ', ' of ', '=', ' is ', ' was '])}{number}{self.rng.choice([' ', ''])}{unit}".rstrip()

    def vital(self) -> str:
        rng = self.rng
        return rng.choice(
            [
                f"BP {rng.randint(85, 200)}/{rng.randint(45, 115)}",
                f"BP {rng.randint(85, 200)}/{rng.randint(45, 115)} mmHg",
                f"HR {rng.randint(45, 150)}",
                f"SpO2 {rng.randint(80, 100)}%",
                f"temp {rng.uniform(35.5, 40.5):.1f} C",
                f"RR {rng.randint(10, 34)}",
                f"BMI {rng.uniform(16, 48):.1f}",
                f"O2 sat {rng.randint(80, 100)}% on room air",
                f"T {rng.uniform(96, 104):.1f}F",
                f"weight {rng.randint(40, 150)} kg",
                f"pain {rng.randint(1, 10)}/10",
                f"GCS {rng.randint(3, 15)}",
            ]
        )

    def drug(self) -> str:
        return self.rng.choice(listed("drugs", self.split))

    def medication(self) -> str:
        """A drug with or without its dose and times."""
        dose = self.rng.choice(
            [
                "5 mg",
                "10 mg",
                "20mg",
                "25 mg",
                "40 mg",
                "50 mcg",
                "81 mg",
                "100mg",
                "250 mg",
                "500 mg",
                "1 g",
                "10 units",
                "2 puffs",
                "875/125 mg",
            ]
        )
        times = self.rng.choice(
            [
                "",
                "",
                " daily",
                " BID",
                " TID",
                " q8h",
                " PO daily",
                " IV",
                " once daily",
                " at bedtime",
                " PRN",
                " twice a day",
                " nightly",
                " x 7 days",
            ]
        )
        return self.drug() if self.rng.random() < 0.4 else f"{self.drug()} {dose}{times}"

    def disease(self) -> str:
        return self.rng.choice(listed("diseases", self.split))

    def icd(self) -> str:
        return self.one(
            [
                "@##",
                "@##.#",
                "@##.##",
                "@##.#",
                "I10",
                "E11.9",
                "J45.909",
                "F32.1",
                "C50.911",
                "M54.5",
                "S##.##XA",
                "Z##.#",
                "N18.3",
                "@##.###",
            ]
        )


MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LABS = [
    ("HbA1c", 4.5, 13, "%"),
    ("hemoglobin", 6, 17, "g/dL"),
    ("Hgb", 6, 17, "g/dL"),
    ("creatinine", 0.5, 7, "mg/dL"),
    ("eGFR", 10, 120, "mL/min/1.73m2"),
    ("TSH", 0.01, 25, "mIU/L"),
    ("WBC", 2, 24, "K/uL"),
    ("WBC", 2, 24, "x10^9/L"),
    ("platelets", 40, 500, "K/uL"),
    ("potassium", 2.5, 6.5, "mmol/L"),
    ("K+", 2.5, 6.5, "mEq/L"),
    ("sodium", 120, 150, "mmol/L"),
    ("LDL", 50, 250, "mg/dL"),
    ("glucose", 50, 450, "mg/dL"),
    ("CRP", 1, 200, "mg/L"),
    ("troponin", 0.01, 9, "ng/mL"),
    ("BNP", 50, 3000, "pg/mL"),
    ("INR", 0.9, 6, ""),
    ("ALT", 10, 400, "U/L"),
    ("AST", 10, 400, "U/L"),
    ("ferritin", 5, 900, "ng/mL"),
    ("PSA", 0.2, 60, "ng/mL"),
    ("vitamin D", 6, 60, "ng/mL"),
    ("lactate", 0.6, 9, "mmol/L"),
    ("bilirubin", 0.3, 12, "mg/dL"),
    ("D-dimer", 200, 4000, "ng/mL"),
    ("A1c", 4.5, 13, "%"),
    ("LVEF", 15, 65, "%"),
    ("viral load", 20, 90000, "copies/mL"),
    ("CD4", 40, 900, "cells/uL"),
    ("uric acid", 3, 12, "mg/dL"),
    ("hCG", 5, 9000, "mIU/mL"),
    ("ESR", 2, 110, "mm/h"),
]


@cache
def _cities(split: str) -> list[str]:
    return keep((HERE / "data" / "cities.txt").read_text("utf-8").splitlines(), split)
