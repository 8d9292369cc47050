"""The page: one file, nothing outside of it, no script. Its policy (CSP) lets in its own style by hash and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from stockade import __version__
from stockade.audit.explain import why
from stockade.audit.record import Json, record_id
from stockade.audit.report.chart import timeline
from stockade.audit.report.coverage import SOURCE, Row, Status, coverage
from stockade.audit.report.frameworks import FRAMEWORKS, Framework
from stockade.audit.report.gather import Case, Group, Refused
from stockade.audit.report.html import Child, Markup, join, tag, text
from stockade.audit.verify import Verification

ROWS = 100  # of one table
_CLASSES = {Status.HELD: "held", Status.PART: "part", Status.RECORDED: "part", Status.OPEN: "not", Status.UNKNOWN: "part"}
_TERMS = {"once": "one request", "for": "a time", "always": "always"}


def page(
    case: Case,
    checks: Sequence[tuple[Path, Verification]],
    *,
    made: str,
    since: str = "",
    until: str = "",
    framework: str | None = None,
    damaged: int = 0,
) -> str:
    """The whole file. made: when, as the trail spells times. since, until: the period asked for. damaged: lines that were no records."""
    style = resources.files("stockade.audit.report").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    chosen = FRAMEWORKS[framework] if framework is not None else None
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="referrer" content="no-referrer">'),
        tag("title", f"{case.name}: what it did, {_day(case.first)} to {_day(case.last)}"),
        Markup(f"<style>{style}</style>"),
    )
    sections = [
        ("refused", "What was refused, and why", _refused(case)),
        ("allowed", "What it reached and ran", _allowed(case)),
        ("data", "What was found in calls to models", _data(case)),
        ("policy", "Which policy was in force when", _policy(case)),
        ("people", "What people let pass", _answers(case)),
        ("findings", "What went wrong", _findings(case)),
        ("owasp", "How policy and sandbox meet OWASP's agentic risks", _coverage(coverage(case))),
        ("framework", chosen.name if chosen else "", _framework(chosen, case, checks)),
        ("integrity", "Whether these records can be believed", _integrity(case, checks, damaged)),
    ]
    there = [(name, title, body) for name, title, body in sections if body]
    body = tag(
        "main",
        _header(case, made, since, until, [(name, title) for name, title, _ in there]),
        _verdicts(case, checks, damaged),
        _tiles(case),
        tag("h2", "When", id="when"),
        timeline(case.timeline, case.generations),
        *[tag("section", tag("h2", title, id=name), part) for name, title, part in there],
        _footer(case),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>{body}</body>\n</html>\n'


def _header(case: Case, made: str, since: str, until: str, sections: Sequence[tuple[str, str]]) -> Markup:
    labels = " ".join(f"{key}={value}" for key, value in sorted(case.labels.items()))
    asked_for = f"{_time(since) if since else 'the beginning'} to {_time(until) if until else 'the end'}"
    command = case.started["detail"].get("command") if case.started is not None else None
    facts: list[tuple[str, Child]] = [
        ("Sandbox", join(case.name, " ", tag("code", case.id))),
        ("Records from", join(_time(case.first), " to ", _time(case.last), " UTC")),
        ("Period asked for", asked_for),
    ]
    if isinstance(command, list):
        facts.append(("Command", tag("code", " ".join(map(str, command)))))
    if labels:
        facts.append(("Labels", tag("code", labels)))
    if case.ended is not None:
        facts.append(("Ended", f"{_time(case.ended['time'])}, status {case.ended['detail'].get('status', '?')}"))
    facts.append(("Report made", f"{_time(made)} UTC by Stockade {__version__}"))
    rows = [each for name, value in facts for each in (tag("dt", name), tag("dd", value))]
    links = [tag("a", title, href=f"#{name}") for name, title in (("when", "When"), *sections)]
    return tag(
        "header",
        tag("p", "Audit report", klass="eyebrow"),
        tag("h1", f"What {case.name} did"),
        tag("dl", *rows, klass="facts"),
        tag("nav", *links),
    )


def _verdicts(case: Case, checks: Sequence[tuple[Path, Verification]], damaged: int) -> Markup:
    found = []
    bad = [check for _, check in checks if not check.ok]
    if bad or damaged:
        found.append(_verdict("bad", "The trail is damaged", "What follows may be incomplete or untrue. See the last section."))
    elif not checks:
        found.append(_verdict("warn", "The trail was not verified", "What follows is what the file says."))
    elif not all(check.pinned_key for _, check in checks):
        found.append(_verdict("warn", "The chain is whole, its key unknown", "No public key was there to compare with."))
    else:
        found.append(_verdict("good", "The trail is whole", "Every record is where it was written; chain and signatures verify."))
    terms = case.terms()
    if not terms:
        found.append(_verdict("warn", "The policy is not on record", "No record of this period says what it was."))
    elif terms.get("mode") == "observe":
        found.append(_verdict("warn", "Nothing was refused by policy", "mode: observe records what would be denied, and lets it through."))
    else:
        found.append(_verdict("good", "The policy was enforced", f"{_figure(case.decisions['refused'])} attempts were refused."))
    if case.findings:
        found.append(_verdict("warn", f"{len(case.findings)} things went wrong", "See “What went wrong”."))
    return tag("div", *found, klass="verdicts")


def _verdict(kind: str, title: str, said: str) -> Markup:
    return tag("div", tag("b", title), tag("span", said), klass=f"verdict {kind}")


def _tiles(case: Case) -> Markup:
    counts = case.decisions
    tiles = [
        ("records", case.records, ""),
        ("attempts allowed", counts["allowed"], ""),
        ("attempts refused", counts["refused"], ""),
        ("denied, let through", counts["observed"], "" if not counts["observed"] else "alarm"),
        ("calls redacted", counts["redact"], ""),
        ("calls kept local", counts["local"], ""),
        ("to be looked at", counts["alerts"], "" if not counts["alerts"] else "alarm"),
    ]
    shown = [each for each in tiles if each[1] or each[0] in ("records", "attempts allowed", "attempts refused")]
    return tag(
        "ul", *[tag("li", tag("b", _figure(count)), tag("span", name), klass=kind or None) for name, count, kind in shown], klass="tiles"
    )


def _refused(case: Case) -> Markup:
    if not case.refused:
        return tag("p", "Nothing was refused in this period.", klass="quiet")
    ordered = sorted(case.refused.items(), key=lambda each: (-each[1].times, each[1].first))
    reasons = Counter[str]()
    for key, group in ordered:
        reasons[key.reason] += group.times
    summary = [
        tag("tr", tag("td", _figure(count), klass="number"), tag("td", tag("code", reason), klass="key"), tag("td", why(reason)[0]))
        for reason, count in reasons.most_common()
    ]
    rows = [_refusal(key, group) for key, group in ordered[:ROWS]]
    return join(
        _table(("#", "reason", "which means"), summary),
        tag("h3", "One by one, alike ones counted"),
        _table(("#", "what was asked", "reason", "rule", "first", "last", "record"), rows),
        _more(len(ordered) - ROWS, "kinds of refusal"),
        tag("p", "A record is shown whole by ", tag("code", "stockade audit show RECORD"), ".", klass="quiet small"),
    )


def _refusal(key: Refused, group: Group) -> Markup:
    verb = {
        "exec": "run",
        "dns": "look up",
        "connect": "connect to",
        "inbound": "in at",
        "file": "open",
        "syscall": "call",
        "device": "use",
    }
    asked_for = [tag("b", key.who or "?"), f" {key.method or verb.get(key.action, key.action)} ", tag("code", key.target)]
    if group.path:
        asked_for += [Markup("<br>"), tag("code", group.path, klass="quiet")]
    reason = [tag("code", key.reason), Markup("<br>"), tag("span", f"at {key.level}", klass="quiet small")]
    if not key.enforced:
        reason.append(tag("span", "let through", klass="tag"))
    return tag(
        "tr",
        tag("td", _figure(group.times), klass="number"),
        tag("td", *asked_for),
        tag("td", *reason),
        tag("td", tag("code", key.rule) if key.rule else tag("span", "none", klass="quiet")),
        tag("td", _clock(group.first), klass="when"),
        tag("td", _clock(group.last), klass="when"),
        tag("td", tag("code", group.example), klass="id"),
    )


def _allowed(case: Case) -> Markup:
    reached = sorted(case.allowed.items(), key=lambda each: (-each[1].times, each[1].first))
    rows = [
        tag(
            "tr",
            tag("td", _figure(group.times), klass="number"),
            tag("td", tag("b", who or "?")),
            tag("td", tag("code", where)),
            tag("td", _octets(group.sent), klass="number"),
            tag("td", _octets(group.received), klass="number"),
            tag("td", _clock(group.last), klass="when"),
        )
        for (who, where), group in reached[:ROWS]
    ]
    ran = sorted(case.programs.items(), key=lambda each: -each[1])
    programs = [
        tag(
            "tr",
            tag("td", _figure(count), klass="number"),
            tag("td", tag("code", path)),
            tag("td", tag("code", sha[:16] or "-", title=sha)),
        )
        for (path, sha), count in ran[:ROWS]
    ]
    none = tag("p", "Nothing was reached in this period.", klass="quiet")
    return join(
        _table(("#", "program", "destination", "sent", "received", "last"), rows) if rows else none,
        _more(len(reached) - ROWS, "destinations"),
        tag("h3", "Programs that ran") if programs else None,
        _table(("#", "file", "SHA-256"), programs) if programs else None,
        _more(len(ran) - ROWS, "programs"),
    )


def _data(case: Case) -> Markup | None:
    if not case.categories:
        return None
    done = {"pass": "sent on", "redact": "sent redacted", "local": "kept local", "refuse": "refused", "cut": "cut off", "relay": "sent on"}
    rows = [
        tag(
            "tr",
            tag("td", _figure(count), klass="number"),
            tag("td", tag("code", category), klass="key"),
            tag("td", done.get(effect, effect)),
        )
        for (effect, category), count in case.categories.most_common(ROWS)
    ]
    return join(
        tag("p", "Counted by category; the texts themselves are in no record.", klass="quiet"),
        _table(("#", "category", "the call was"), rows),
    )


def _policy(case: Case) -> Markup:
    if not case.generations:
        return tag("p", "No record of this period says that a policy came into force; it was in force before.", klass="quiet")
    rows = []
    for number, each in enumerate(case.generations):
        detail = each.said["detail"]
        until = case.generations[number + 1].since if number + 1 < len(case.generations) else (case.ended or {}).get("time", "")
        sources = detail.get("sources", [])
        files = join(*[tag("code", source) for source in sources], by=", ") if isinstance(sources, list) else ""
        rows.append(
            tag(
                "tr",
                tag("td", each.number, klass="number"),
                tag("td", _time(each.since), klass="when"),
                tag("td", _time(until) if until else "in force", klass="when"),
                tag("td", each.cause),
                tag("td", files),
                tag("td", detail.get("rule_count", "?"), klass="number"),
                tag("td", tag("code", str(detail.get("policy_sha256", ""))[:16], title=detail.get("policy_sha256", ""))),
            )
        )
    parts: list[Child] = [_table(("generation", "from", "until", "because of", "files", "rules", "SHA-256"), rows)]
    said = case.policy
    if said is not None:
        terms = [(name, value) for name, value in case.terms().items() if value and not name.startswith("rules")]
        parts.append(tag("h3", f"What the last one says ({said['sandbox']['policy']}, generation {said['sandbox']['generation']})"))
        parts.append(
            _table(("setting", "value"), [tag("tr", tag("td", tag("code", name), klass="key"), tag("td", value)) for name, value in terms])
        )
        rules = [str(rule).partition(": ") for rule in said["detail"].get("rules", [])]
        parts.append(
            _table(
                ("rule", "lets pass"),
                [tag("tr", tag("td", tag("code", name), klass="key"), tag("td", rest, klass="small")) for name, _, rest in rules],
            )
        )
        parts.append(_more(int(said["detail"].get("rule_count", 0)) - len(rules), "rules"))
    return join(*parts)


def _answers(case: Case) -> Markup | None:
    rows = []
    for record in case.answers[:ROWS]:
        wanted, detail = record["destination"] or {"host": "?"}, record["detail"]
        rows.append(
            tag(
                "tr",
                tag("td", _time(record["time"]), klass="when"),
                tag("td", why(record["reason"])[0]),
                tag("td", str(detail.get("by") or "-")),
                tag("td", tag("code", f"{detail.get('method', '')} {wanted['host']}{detail.get('path', '')}".strip())),
                tag("td", _TERMS.get(str(detail.get("term", "")), "")),
                tag("td", tag("code", record_id(record)), klass="id"),
            )
        )
    return join(_table(("when", "what", "by", "of", "for", "record"), rows), _more(len(case.answers) - ROWS, "answers")) if rows else None


def _findings(case: Case) -> Markup | None:
    rows = [_finding(record) for record in case.findings[:ROWS]]
    return join(_table(("when", "what", "detail", "record"), rows), _more(len(case.findings) - ROWS, "findings")) if rows else None


def _finding(record: Json) -> Markup:
    detail = ", ".join(f"{name} {_plain(value)}" for name, value in sorted(record["detail"].items()) if name not in ("terms", "rules"))
    return tag(
        "tr",
        tag("td", _time(record["time"]), klass="when"),
        tag("td", why(record["reason"])[0]),
        tag("td", detail[:400], klass="small"),
        tag("td", tag("code", record_id(record)), klass="id"),
    )


def _coverage(rows: Iterable[Row]) -> Markup:
    made = [
        tag(
            "tr",
            tag("td", tag("b", row.name), tag("span", row.id, klass="quiet small"), klass="name"),
            tag("td", tag("span", row.status.value, klass=f"status {_CLASSES[row.status]}")),
            tag("td", _items(row.holds) or tag("span", "-", klass="quiet")),
            tag("td", _items(row.open, "open") or tag("span", "nothing that is on record", klass="quiet")),
            tag("td", row.beyond, klass="quiet small"),
        )
        for row in rows
    ]
    intro = f"{SOURCE}. Derived from the policy and the sandbox that the records of this period say were in force."
    return join(
        tag("p", intro, klass="quiet"),
        _table(("risk", "held?", "what holds it", "what this policy leaves open", "beyond any sandbox"), made),
    )


def _framework(chosen: Framework | None, case: Case, checks: Sequence[tuple[Path, Verification]]) -> Markup | None:
    if chosen is None:
        return None
    rows = [
        tag("tr", tag("td", tag("b", each.control), each.title, klass="name"), tag("td", each.shows), tag("td", each.lacks, klass="quiet"))
        for each in chosen.rows(case, [check for _, check in checks])
    ]
    intro = "For which controls these records are evidence. None is claimed to be met: titles are short forms, and an auditor judges."
    return join(tag("p", intro, klass="quiet"), _table(("control", "what these records show", "what they do not"), rows))


def _integrity(case: Case, checks: Sequence[tuple[Path, Verification]], damaged: int) -> Markup:
    rows = []
    for path, check in checks:
        said = "whole" if check.ok else f"damaged at {check.file or path}:{check.first_bad_line}: {check.problem}"
        key = "compared with the public key beside it" if check.pinned_key else "no public key to compare with"
        rows.append(
            tag(
                "tr",
                tag("td", tag("code", str(path))),
                tag("td", tag("span", said, klass=f"status {'held' if check.ok else 'not'}")),
                tag("td", _figure(check.records), klass="number"),
                tag("td", _figure(check.checkpoints), klass="number"),
                tag("td", _figure(check.unsigned), klass="number"),
                tag("td", key),
            )
        )
    said = (
        "Each record carries the hash of the one before it, and checkpoints are signed. Whoever holds the public key can check it again: "
    )
    return join(
        tag(
            "p",
            said,
            tag("code", "stockade audit verify TRAIL"),
            f". Records {case.first_seq} to {case.last_seq} of the trail are of this sandbox.",
        ),
        _table(("trail", "verdict", "last record", "checkpoints", "not signed yet", "key"), rows) if rows else None,
        tag("p", f"{damaged} lines are no records, and nothing of them is on this page.") if damaged else None,
    )


def _footer(case: Case) -> Markup:
    said = "This page says what the records say. What they do not hold: texts of prompts and answers, bodies of requests, what went over "
    said += "relayed connections, and what happened outside of the sandbox. Credentials and ids of persons in paths are masked as ***."
    beyond = f" {_figure(case.beyond)} records are counted above and belong to groups that are not shown." if case.beyond else ""
    return tag("footer", tag("p", said + beyond))


# pieces


def _table(heads: Sequence[str], rows: Iterable[Markup]) -> Markup:
    numbers = {"#", "sent", "received", "rules", "generation", "last record", "checkpoints", "not signed yet"}
    cells = [tag("th", head, klass="number" if head in numbers else None, scope="col") for head in heads]
    return tag(
        "div", tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows), klass="many" if len(heads) >= 5 else None), klass="wide"
    )


def _items(texts: Sequence[str], kind: str | None = None) -> Markup | None:
    return tag("ul", *[tag("li", each) for each in texts], klass=kind) if texts else None


def _more(count: int, of_what: str) -> Markup | None:
    return tag("p", f"{_figure(count)} more {of_what} are counted and not shown here.", klass="quiet small") if count > 0 else None


def _plain(value: object) -> str:
    said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return said.replace("\n", "; ")


def _figure(count: int) -> str:
    return f"{count:,}"


def _octets(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def _time(text: str) -> str:
    return text[:19].replace("T", " ") or "-"


def _clock(text: str) -> str:
    return text[5:19].replace("T", " ")


def _day(text: str) -> str:
    return text[:10]
