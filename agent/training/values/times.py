"""Dates in many spellings, birth dates, times of day and spans, ages."""

from __future__ import annotations

from training.values.drawn import Drawn

MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


class Times(Drawn):
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
