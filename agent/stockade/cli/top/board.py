"""What there is to show: two answers of the agents' `statistics`, and what lies between them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stockade.metrics.figures import Stage, quantile

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers by id of the sandbox. at: of a monotonic clock."""

    at: float
    answers: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Line:
    """Attempts of one binary, destination or both. allowed, denied: per second; the totals: since the sandbox began."""

    sandbox: str
    binary: str
    destination: str
    action: str
    allowed: float
    denied: float
    allowed_total: int
    denied_total: int
    reason: str
    last: str

    def json(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__}


class Board:
    """before None: rates are over the whole life of each sandbox."""

    def __init__(self, before: Sample | None, now: Sample) -> None:
        self._before, self._now = before, now
        self.seconds = now.at - before.at if before is not None else 0.0

    def sandboxes(self) -> list[Json]:
        return [self._sandbox(key, now) for key, now in self._now.answers.items()]

    def _sandbox(self, key: str, now: Json) -> Json:
        was, seconds = self._was(key, now)
        names = ("sandbox", "id", "policy", "generation", "mode", "processes", "workers", "connections", "approvals_pending")
        rates = {f"{name}_per_second": (now[name] - was.get(name, 0)) / seconds for name in ("allowed", "denied", "sent", "received")}
        totals = {name: now[name] for name in ("allowed", "denied", "unenforced", "sent", "received")}
        return {name: now[name] for name in names} | totals | rates | {"latency": self._latency(now, was)}

    def _latency(self, now: Json, was: Json) -> dict[str, Json]:
        """Of what happened in between; of all, when nothing did."""
        found = {}
        for stage in map(str, Stage):
            if stage not in now["latency"]:
                continue
            counts = now["latency"][stage]["counts"]
            past = was.get("latency", {}).get(stage, {}).get("counts", [0] * len(counts))
            new = [count - less for count, less in zip(counts, past, strict=True)]
            taken = new if any(new) else counts
            found[stage] = {"count": sum(new), "p50": quantile(taken, 0.5), "p99": quantile(taken, 0.99)}
        return found

    def lines(self, by: Sequence[str]) -> list[Line]:
        """Attempts added up by some of `binary`, `destination`, `action`; what is not among them is empty."""
        summed: dict[tuple[str, ...], list[Any]] = {}
        for key, now in self._now.answers.items():
            was, seconds = self._was(key, now)
            past = {(row["binary"], row["destination"], row["action"]): row for row in was.get("activity", ())}
            for row in now["activity"]:
                old = past.get((row["binary"], row["destination"], row["action"]), {"allowed": 0, "denied": 0})
                place = (now["sandbox"], *(row[name] if name in by else "" for name in ("binary", "destination", "action")))
                line = summed.setdefault(place, [0.0, 0.0, 0, 0, "", ""])
                line[0] += max(0, row["allowed"] - old["allowed"]) / seconds
                line[1] += max(0, row["denied"] - old["denied"]) / seconds
                line[2] += row["allowed"]
                line[3] += row["denied"]
                if row["last"] > line[5]:
                    line[5] = row["last"]
                    line[4] = row["reason"] or line[4]
                line[4] = line[4] or row["reason"]
        return [Line(*place, *values) for place, values in summed.items()]  # type: ignore[arg-type]  # in the order of its fields

    def refusals(self) -> list[Json]:
        """The newest first, of all sandboxes."""
        found = [refusal | {"sandbox": now["sandbox"]} for now in self._now.answers.values() for refusal in now["refusals"]]
        return sorted(found, key=lambda refusal: str(refusal["time"]), reverse=True)

    def json(self) -> Json:
        """One refresh as `-o json` prints it. seconds: since the last."""
        by = ("binary", "destination", "action")
        activity: Iterable[Line] = self.lines(by)
        return {
            "seconds": round(self.seconds, 3),
            "sandboxes": self.sandboxes(),
            "activity": [line.json() for line in activity],
            "refusals": self.refusals(),
        }

    def _was(self, key: str, now: Json) -> tuple[Json, float]:
        """(an earlier answer, seconds since then); of a sandbox that is new, nothing, since it began."""
        if self._before is not None and key in self._before.answers:
            return self._before.answers[key], max(self.seconds, 0.001)
        return {}, max(now["asked"] - now["since"], 0.001)
