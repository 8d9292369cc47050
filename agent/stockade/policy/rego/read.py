"""Reading: Rego files turned into one value, every problem with its place. The engine's own process parses them, this one only listens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stockade.policy.format.document import MAX_BYTES, Findings, Place
from stockade.policy.rego import judge
from stockade.policy.rego.module import PACKAGE, REFUSED_BUILTINS, Node, Rego, called, compose, dotted, nodes, package

_PACKAGED = re.compile(r"\A(?:[ \t\r\n]|#[^\n]*(?:\n|\Z))*package\b")
_HEADER = f"package {PACKAGE}\n"


def read(files: Sequence[tuple[Path, Place]], findings: Findings) -> Rego | None:
    """files: each with who asks for it. None when one has an error; findings says which."""
    before = len(findings.problems)
    texts = [text for path, asked in files if (text := _text(path, asked, findings)) is not None]
    if len(findings.problems) > before:
        return None
    try:
        with judge.Judge.start(milliseconds=judge.CHECK_MILLISECONDS) as started:
            answer = started.check([(text.name, text.packaged) for text in texts])
            asts = [module["ast"] for module in answer.get("modules", ())]
            unknown = started.unknown(sorted({name for ast in asts for name in called(ast)}))
    except (OSError, judge.Failed) as failure:
        findings.add(files[0][1], "rego_engine", f"the Rego of this policy could not be read: {failure}")
        return None
    by_name = {text.name: text for text in texts}
    for problem in _problems(answer, texts, unknown):
        name, line, column, code, message, accepted = problem
        findings.add(by_name[name].at(line, column), code, message, accepted=accepted)
    if len(findings.problems) > before:
        return None
    versions = [module["v1"] for module in answer["modules"]]
    return compose([(text.name, text.packaged, v1) for text, v1 in zip(texts, versions, strict=True)], asts)


class _Text:
    """One file as it was written, and as the engine sees it."""

    def __init__(self, path: Path, written: str) -> None:
        self.name, self.lines = str(path), written.splitlines()
        self._shift = 0 if _PACKAGED.match(written) else 1
        self.packaged = written if not self._shift else _HEADER + written

    def at(self, line: int, column: int) -> Place:
        """The place of what the engine calls line and column."""
        line = max(line - self._shift, 1)
        return Place(self.name, line, column, self.lines[line - 1] if line <= len(self.lines) else "")


def _text(path: Path, asked: Place, findings: Findings) -> _Text | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        findings.add(asked, "unreadable", f"cannot read {path}: {error.strerror}")
        return None
    if len(data) > MAX_BYTES:
        findings.add(asked, "too_large", f"a policy file has at most {MAX_BYTES} bytes, {path} has {len(data)}")
        return None
    try:
        return _Text(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        findings.add(Place(str(path), line, 1), "not_utf8", f"byte 0x{data[error.start]:02x} is not UTF-8")
        return None


def _problems(answer: dict[str, Any], texts: list[_Text], unknown: frozenset[str]) -> Iterator[tuple[str, int, int, str, str, str]]:
    """(file, line, column, code, message, accepted) of everything that is wrong."""
    if "error" in answer:
        name, line, column = answer.get("at", (texts[0].name, 1, 1))
        name = name if any(text.name == name for text in texts) else texts[0].name
        yield name, line, column, "rego_syntax", str(answer["error"]), "Rego as of OPA 1.0, or as before it"
        return
    for text, module in zip(texts, answer["modules"], strict=True):
        ast: Node = module["ast"]
        if package(ast) != PACKAGE:
            span = ast["package"]["span"]
            message = f"this is package {package(ast)}: nothing of it would be asked"
            yield text.name, span["line"], span["col"], "rego_package", message, f"package {PACKAGE}, or no package line"
        for span, call in nodes(ast, "Call"):
            name = dotted(call["fcn"])
            if name in REFUSED_BUILTINS:
                message = f"{name} is refused: a decision depends on the request and the policy alone"
                yield (
                    text.name,
                    span["line"],
                    span["col"],
                    "rego_builtin",
                    message,
                    "functions of their arguments, such as startswith or glob.match",
                )
            elif name in unknown:
                yield (
                    text.name,
                    span["line"],
                    span["col"],
                    "rego_builtin",
                    f"there is no function {name}",
                    "a builtin of Rego, or a function of this file",
                )
