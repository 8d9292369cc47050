"""Towns, countries, streets, postal codes and whole addresses, as several countries write them."""

from __future__ import annotations

from training.values.lists import cities, listed
from training.values.people import People


class Places(People):
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

    def city(self) -> str:
        if self.rng.random() < 0.6:
            return self.rng.choice(cities(self.split))
        return self._from("city")

    def country(self) -> str:
        return self.rng.choice(listed("countries", self.split)) if self.rng.random() < 0.7 else self._from("country", "en_US")

    def state(self) -> str:
        return self._from(self.rng.choice(["state", "state_abbr"]), "en_US") if self.rng.random() < 0.7 else self._from("state")

    def road(self) -> str:
        """A street without a number."""
        name = self.rng.choice(
            [self.last(), self.first(), *(self.rng.choice(listed("streets", self.split)) for _ in range(4)), self.city()]
        )
        kind = "Street Street St Road Road Rd Avenue Avenue Ave Lane Drive Boulevard Blvd Way Court Place Terrace Square Parkway Highway Row Hill".split()
        return self.rng.choice(
            [f"{name} {self.rng.choice(kind)}"] * 7 + [f"rue {name}", f"Via {name}", f"Calle {name}", f"{name}straße", f"Avenida {name}"]
        )

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
