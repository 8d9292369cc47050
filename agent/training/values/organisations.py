"""Companies, authorities, schools and hospitals."""

from __future__ import annotations

from training.values.lists import listed
from training.values.places import Places


class Organisations(Places):
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
