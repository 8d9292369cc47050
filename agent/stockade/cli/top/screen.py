"""The screen of `top`, as lines of a width. Pure: a board and what the user has chosen in, text out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stockade.cli.top.board import Board, Json, Line
from stockade.cli.top.text import octets, plain, rate, safe, seconds

VIEWS = ("activity", "binaries", "destinations", "refusals", "latency")
_BY = {"activity": ("binary", "destination", "action"), "binaries": ("binary",), "destinations": ("destination",)}
SORTS = ("rate", "refused", "total", "last", "name")
_SANDBOXES = 5  # of their lines: the rest is counted

HELP = (
    "1-5, Tab   what is shown: activity, binaries, destinations, refusals, latency",
    "s, r       sort by rate, refused, total, last, name; the other way round",
    "/          filter: a text that a line must hold; Enter ends it, Esc forgets it",
    "p, Space   pause: nothing moves, and what comes meanwhile is in the totals",
    "arrows, j k, PageUp PageDown   move in the list",
    "q, Ctrl-C  quit",
    "",
    "Rates are per second since the last look. Names are as the trail has them;",
    "what is not printable is spelt out. Whole records: stockade audit.",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user has chosen. typing: the filter is being typed."""

    view: str = "activity"
    sort: str = "rate"
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    paused: bool = False
    help: bool = False
    offset: int = 0

    def pressed(self, key: str) -> Choice:
        """After a key: a character, or `tab`, `enter`, `esc`, `back`, `up`, `down`, `pageup`, `pagedown`."""
        change: Callable[..., Choice] = lambda **fields: dataclasses.replace(self, **fields)  # noqa: E731
        if self.typing:
            if key in ("enter", "esc"):
                return change(typing=False, filter=self.filter if key == "enter" else "")
            if key == "back":
                return change(filter=self.filter[:-1], offset=0)
            return change(filter=self.filter + key, offset=0) if len(key) == 1 and len(self.filter) < 64 else self
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10}
        if key in moves:
            return change(offset=max(0, self.offset + moves[key]))
        if self.help:
            return change(help=False)
        match key:
            case "?" | "h":
                return change(help=True)
            case "tab":
                return change(view=VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)], offset=0)
            case "1" | "2" | "3" | "4" | "5":
                return change(view=VIEWS[int(key) - 1], offset=0)
            case "s":
                return change(sort=SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)], offset=0)
            case "r":
                return change(reverse=not self.reverse)
            case "/":
                return change(typing=True, filter="")
            case "esc":
                return change(filter="", offset=0)
            case "p" | " ":
                return change(paused=not self.paused)
        return self


@dataclass(frozen=True, slots=True)
class Row:
    """style: plain, title, head, bad or dim."""

    text: str
    style: str = "plain"


def draw(board: Board, choice: Choice, clock: str, columns: int, rows: int) -> list[Row]:
    """Exactly `rows` lines, none longer than `columns`."""
    sandboxes = board.sandboxes()
    allowed, denied = (sum(each[f"{name}_per_second"] for each in sandboxes) for name in ("allowed", "denied"))
    title = f"stockade top  {clock}  {_count(len(sandboxes), 'sandbox')}  {rate(allowed)}/s allowed  {rate(denied)}/s refused"
    lines = [Row(title + ("  [paused]" if choice.paused else ""), "title")]
    if choice.help:
        lines += [Row("")] + [Row(line) for line in HELP]
    else:
        lines += _sandboxes(sandboxes, choice, columns)
        lines += [Row("")]
        head, body = _view(board, choice, columns)
        room = max(0, rows - len(lines) - 2)
        offset = min(choice.offset, max(0, len(body) - room))
        lines += [Row(head, "head"), *body[offset : offset + room]]
    lines = lines[: rows - 1]
    lines += [Row("")] * (rows - 1 - len(lines)) + [_foot(choice)]
    return [dataclasses.replace(row, text=row.text[:columns]) for row in lines[:rows]]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}es"


def _foot(choice: Choice) -> Row:
    if choice.typing:
        return Row(f"filter: {safe(choice.filter)}_", "title")
    filtered = f"  filter: {safe(choice.filter)}" if choice.filter else ""
    order = f"{choice.sort}{' reversed' if choice.reverse else ''}"
    return Row(f"q quit  ? help  1-5 view  s sort ({order})  / filter  p pause{filtered}", "dim")


def _sandboxes(found: list[Json], choice: Choice, columns: int) -> list[Row]:
    """First those that the filter names, then those that nobody serves, then the busiest."""
    name = max(14, _name_width(columns))
    lines = [
        Row(
            f"{plain('SANDBOX', name)} {'POLICY':14} {'GEN':>3} {'PROC':>5} {'CONN':>5} {'OK/s':>6} {'NO/s':>6} {'IN/s':>6} {'OUT/s':>6}",
            "head",
        )
    ]

    def order(each: Json) -> tuple[bool, bool, float]:
        named = bool(choice.filter) and _has(choice, each["sandbox"])
        return not named, bool(each["workers"]), -each["allowed_per_second"] - each["denied_per_second"]

    shown = sorted(found, key=order)
    for each in shown[:_SANDBOXES]:
        text = (
            f"{plain(each['sandbox'], name)} {plain(each['policy'], 14)} {each['generation']:>3} {each['processes']:>5}"
            f" {sum(each['connections'].values()):>5} {rate(each['allowed_per_second']):>6} {rate(each['denied_per_second']):>6}"
            f" {octets(each['received_per_second']):>6} {octets(each['sent_per_second']):>6}"
        )
        marks = ("  observe" if each["mode"] == "observe" else "") + ("  NO WORKER" if not each["workers"] else "")
        lines.append(Row(text + marks, "bad" if not each["workers"] else "plain"))
    if len(found) > _SANDBOXES:
        without = sum(not each["workers"] for each in shown[_SANDBOXES:])
        told = f", {without} of them without a worker" if without else ""
        lines.append(Row(f"and {len(found) - _SANDBOXES} more{told}", "bad" if without else "dim"))
    return lines


def _view(board: Board, choice: Choice, columns: int) -> tuple[str, list[Row]]:
    if choice.view == "refusals":
        return _refusals(board.refusals(), choice, columns)
    if choice.view == "latency":
        return _latencies(board.sandboxes(), choice, columns)
    return _lines(board.lines(_BY[choice.view]), choice, columns)


def _lines(found: Iterable[Line], choice: Choice, columns: int) -> tuple[str, list[Row]]:
    """Widths follow the screen: what is named gets what the numbers leave."""
    by = _BY[choice.view]
    name = _name_width(columns)
    room = max(20, columns - 1 - name - (38 if columns < 110 else 50))
    widths = {"binary": room if len(by) == 1 else room * 2 // 5, "destination": room if len(by) == 1 else room - room * 2 // 5 - 1}
    names = [each for each in ("binary", "destination") if each in by]
    head = " ".join([plain("SANDBOX", name), *(plain(each.upper(), widths[each]) for each in names)])
    head += f" {'OK/s':>6} {'NO/s':>6} {'OK':>7} {'NO':>6} REASON"
    body = []
    for line in _sorted(found, choice):
        cells = {"binary": line.binary, "destination": f"{line.action} {line.destination}".lstrip()}
        values = [plain(cells[each], widths[each]) for each in names]
        text = " ".join([plain(line.sandbox, name), *values])
        text += f" {rate(line.allowed):>6} {rate(line.denied):>6} {line.allowed_total:>7} {line.denied_total:>6} {safe(line.reason)}"
        if _has(choice, text, line.sandbox):
            body.append(Row(text, "bad" if line.denied > 0 else "plain"))
    return head, body


def _sorted(found: Iterable[Line], choice: Choice) -> list[Line]:
    keys: dict[str, Callable[[Line], Any]] = {
        "rate": lambda line: (line.allowed + line.denied, line.last),
        "refused": lambda line: (line.denied, line.denied_total),
        "total": lambda line: line.allowed_total + line.denied_total,
        "last": lambda line: line.last,
        "name": lambda line: (line.sandbox, line.binary, line.destination),
    }
    return sorted(found, key=keys[choice.sort], reverse=(choice.sort != "name") is not choice.reverse)


def _name_width(columns: int) -> int:
    """Many sandboxes have names that only differ at their ends."""
    return 10 if columns < 110 else 24 if columns < 140 else 32


def _has(choice: Choice, *texts: str) -> bool:
    wanted = safe(choice.filter).lower()
    return any(wanted in safe(text).lower() for text in texts)


def _refusals(found: list[Json], choice: Choice, columns: int) -> tuple[str, list[Row]]:
    name, body = _name_width(columns), []
    for each in reversed(found) if choice.reverse else found:
        what = each["request"] or each["destination"]
        where = f"{each['destination']} {each['request']}" if each["request"] else what
        passed = "" if each["enforced"] else " (passed: observed)"
        who = f"{each['binary']}({each['pid']})" if each["pid"] else each["binary"]
        text = f"{str(each['time'])[11:19]} {plain(each['sandbox'], name)} {plain(who, 16)} {safe(each['reason'])}{passed} {safe(where)}"
        if _has(choice, text, each["sandbox"]):
            body.append(Row(text))
    return f"{'TIME':8} {plain('SANDBOX', name)} {'BINARY':16} REASON AND WHAT WAS REFUSED", body


def _latencies(found: list[Json], choice: Choice, columns: int) -> tuple[str, list[Row]]:
    name, body = max(14, _name_width(columns)), []
    for each in found:
        for stage, latency in each["latency"].items():
            text = (
                f"{plain(each['sandbox'], name)} {stage:18} {latency['count']:>8} {seconds(latency['p50']):>8} {seconds(latency['p99']):>8}"
            )
            if _has(choice, text, each["sandbox"]):
                body.append(Row(text))
    return f"{plain('SANDBOX', name)} {'STAGE':18} {'TIMES':>8} {'P50':>8} {'P99':>8}", body
