"""`stockade policy test`: the cases beside a policy, put to it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.policy.format.problems import PolicyError, Problem

if TYPE_CHECKING:
    from stockade.policy.cases.suite import Suite
    from stockade.policy.cases.testing import Coverage, Result

SUMMARY = (
    "Put the cases of FILE_test.yaml to FILE.yaml. A case names the decision and the rule that must have made it. "
    "Exit status: 0 all as expected, 1 not, 2 a test file or its policy does not load."
)
EXAMPLES = """\
  stockade policy test                                  # the tests of every preset that ships
  stockade policy test my-policy.yaml --coverage        # my-policy_test.yaml, and what of the policy no case reaches
  stockade policy test policies/ -o junit > report.xml  # every *_test.yaml below a directory
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", metavar="FILE|DIR", help="policy, its test file, presets/NAME, or a directory; default: presets"
    )
    parser.add_argument("--coverage", action="store_true", help="list rules and entries that no case reaches; fail below 100 %%")
    parser.add_argument("-o", "--output", choices=("text", "json", "junit"), default="text", help="how to print")


@dataclass(slots=True)
class _Report:
    """untested: what was named and has no test file. broken: test files that do not load, with why."""

    runs: list[tuple[Suite, tuple[Result, ...]]] = field(default_factory=list)
    untested: list[Path] = field(default_factory=list)
    broken: list[tuple[Path, tuple[Problem, ...]]] = field(default_factory=list)
    coverage: Coverage | None = None

    @property
    def results(self) -> list[Result]:
        return [result for _, results in self.runs for result in results]

    @property
    def failed(self) -> int:
        return sum(not result.passed for result in self.results)

    @property
    def status(self) -> int:
        if self.broken:
            return 2
        uncovered = self.coverage is not None and bool(self.coverage.unreached)
        return 1 if self.failed or self.untested or uncovered or not self.results else 0


def run(args: argparse.Namespace) -> int:
    from stockade.policy.cases import testing
    from stockade.policy.cases.suite import read_suite

    report = _Report()
    for path in _files(args.paths, report):
        try:
            suite = read_suite(path)
        except PolicyError as error:
            report.broken.append((path, error.problems))
        except OSError as error:
            report.broken.append((path, (Problem(str(path), 0, 0, "unreadable", f"cannot read {path}: {error.strerror}"),)))
        else:
            report.runs.append((suite, testing.run(suite)))
    if args.coverage:
        report.coverage = testing.coverage(report.runs)
    {"text": _text, "json": _json, "junit": _junit}[args.output](report)
    return report.status


def _files(named: list[str], report: _Report) -> list[Path]:
    """Test files in the order named, each once; what has none goes into the report."""
    from stockade.policy.cases.suite import SUFFIX, is_test_file, tests_of
    from stockade.policy.presets import preset_path, presets

    found: list[Path] = []
    for path in [Path(text) for text in named] or [preset.path for preset in presets()]:
        if path.is_dir():
            found += sorted(file for file in path.rglob(f"*{SUFFIX}.y*ml") if file.suffix in (".yaml", ".yml"))
            continue
        if not path.exists() and (preset := preset_path(str(path))) is not None:
            path = preset
        test = path if is_test_file(path) else tests_of(path)
        if test.exists() or not path.exists():
            found.append(test if path.exists() else path)
        else:
            report.untested.append(path)
    return list(dict.fromkeys(found))


def _text(report: _Report) -> None:
    for path, problems in report.broken:
        print(f"{path}: does not load")
        for problem in problems:
            print(problem)
    for path in report.untested:
        print(f"{path}: has no tests: there is no {path.stem}_test{path.suffix} beside it")
    for suite, results in report.runs:
        for result in results:
            if not result.passed:
                _miss(result)
        if not results:
            print(f"{suite.path}: has no cases")
    if report.coverage is not None and report.runs:
        for missing in report.coverage.unreached:
            print(f"{missing} is reached by no case")
        print(f"coverage {report.coverage.percent:g} %: {report.coverage.reached} of {report.coverage.total} rules and entries")
    count = len(report.results)
    print(
        f"{count - report.failed} passed, {report.failed} failed, in {len(report.runs)} files"
        if count
        else "no test was run: that is a failure"
    )


def _miss(result: Result) -> None:
    case = result.case
    print(f"{case.place.path}:{case.place.line}: FAIL {case.name or case.asked}")
    print(f"    asked     {case.asked}")
    print(f"    expected  {case.expected}")
    print(f"    came      {_came(result)}")
    print(f"    nearest   {result.nearest}")


def _came(result: Result) -> str:
    from stockade.policy.cases.suite import said

    decision = result.decision
    came = said(decision.outcome, decision.effect if result.case.call is not None else None)
    return f"{came}, rule {decision.rule or 'none'}, level {decision.level.value}, reason {decision.reason.value}"


def _json(report: _Report) -> None:
    coverage = report.coverage
    answer = {
        "passed": len(report.results) - report.failed,
        "failed": report.failed,
        "cases": [_fields(result) for result in report.results],
        "untested": [str(path) for path in report.untested],
        "broken": [{"path": str(path), "problems": [str(problem) for problem in problems]} for path, problems in report.broken],
        "coverage": None
        if coverage is None
        else {
            "percent": coverage.percent,
            "reached": coverage.reached,
            "total": coverage.total,
            "unreached": [
                {"path": item.place.path, "line": item.place.line, "rule": item.rule, "entry": str(item.entry) if item.entry else None}
                for item in coverage.unreached
            ],
        },
    }
    print(json.dumps(answer, indent=2))


def _fields(result: Result) -> dict[str, str | int | bool | None]:
    case, decision = result.case, result.decision
    return {
        "path": case.place.path,
        "line": case.place.line,
        "name": case.name,
        "asked": case.asked,
        "passed": result.passed,
        "expected": str(case.expected),
        "decision": decision.outcome.value,
        "effect": decision.effect.value,
        "rule": decision.rule,
        "level": decision.level.value,
        "reason": decision.reason.value,
        "nearest": result.nearest,
    }


def _junit(report: _Report) -> None:
    """The dialect that Jenkins, GitLab and GitHub's report actions read. No times: two runs print the same."""
    from xml.etree import ElementTree

    suites = ElementTree.Element("testsuites", name="stockade policy test")

    def add(name: str, tests: int, failures: int, errors: int) -> ElementTree.Element:
        numbers = {"tests": str(tests), "failures": str(failures), "errors": str(errors), "skipped": "0"}
        return ElementTree.SubElement(suites, "testsuite", {"name": name, **numbers})

    def case(suite: ElementTree.Element, name: str, file: str, line: int = 0) -> ElementTree.Element:
        fields = {"classname": suite.attrib["name"], "name": name, "file": file}
        return ElementTree.SubElement(suite, "testcase", fields | ({"line": str(line)} if line else {}))

    def wrong(element: ElementTree.Element, kind: str, message: str, text: str = "") -> None:
        ElementTree.SubElement(element, kind, message=message, type=kind).text = text or message

    for suite, results in report.runs:
        element = add(str(suite.path), len(results) or 1, sum(not result.passed for result in results) + (not results), 0)
        if not results:
            wrong(case(element, "has cases", str(suite.path)), "failure", "the file has no cases")
        for result in results:
            asked = result.case
            name = f"{asked.name}: {asked.asked}" if asked.name else asked.asked
            shown = case(element, name, asked.place.path, asked.place.line)
            if not result.passed:
                text = f"expected {asked.expected}\ncame {_came(result)}\nnearest {result.nearest}"
                wrong(shown, "failure", f"expected {asked.expected}; came {_came(result)}", text)
    for path in report.untested:
        wrong(case(add(str(path), 1, 1, 0), "has tests", str(path)), "failure", "there is no test file beside it")
    for path, problems in report.broken:
        text = "\n".join(map(str, problems))
        wrong(case(add(str(path), 1, 0, 1), "loads", str(path)), "error", "the test file or its policy does not load", text)
    if report.coverage is not None:
        missing = report.coverage.unreached
        shown = case(add("coverage", 1, int(bool(missing)), 0), "every rule and entry is reached", "")
        if missing:
            wrong(shown, "failure", f"coverage is {report.coverage.percent:g} %", "\n".join(map(str, missing)))
    if not len(suites):
        wrong(case(add("stockade policy test", 1, 1, 0), "has tests", ""), "failure", "no test was run")
    for name in ("tests", "failures", "errors"):
        suites.set(name, str(sum(int(element.attrib[name]) for element in suites)))
    ElementTree.indent(suites)
    ElementTree.ElementTree(suites).write(sys.stdout, encoding="unicode", xml_declaration=True)
    print()
