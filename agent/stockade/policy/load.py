"""Loading: files and presets, and all they extend, composed into one Policy.

Either the whole policy loads or every problem is raised at once.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stockade.policy.families import load_families
from stockade.policy.format.amounts import amount, size
from stockade.policy.format.calls import ALLOW, DENY, examine_calls
from stockade.policy.format.document import MAX_BYTES, Findings, Mapping, Node, Place, Scalar, compose
from stockade.policy.format.lint import Whole, examine
from stockade.policy.format.origins import Origins
from stockade.policy.format.problems import PolicyError, Problem, meant
from stockade.policy.format.routes import Examined, examine_routes
from stockade.policy.format.rules import parse_rule
from stockade.policy.format.schema import Document, Part, Reader, RuleDraft
from stockade.policy.inbound import Stated, examine_inbound, inbound_of, parse_inbound, places_of
from stockade.policy.model import Exec, Filesystem, Policy, Process, Rule, Seccomp
from stockade.policy.presets import preset_names, preset_path
from stockade.policy.rego import Rego, read
from stockade.policy.router import Stated as Routing
from stockade.policy.router import parse_privacy, with_models

# Of a key that several documents state, the first of these values holds, whoever says it.
_STRICT = {
    "mode": ("enforce",),
    "exec.unlisted": ("refuse",),
    "exec.writable": ("false",),
    "on_audit_failure": ("deny",),
    "privacy.mode": ("enforce",),
    "privacy.unreadable": ("deny", "local"),
    "privacy.on_failure": ("deny", "local"),
    "privacy.on_local_failure": ("deny",),
}

# And of these the least.
_LIMITS = frozenset({"process.pids", "process.memory", "process.cpu", "privacy.redact.ttl"})


def load(
    paths: Sequence[Path | str],
    *,
    presets: Sequence[str] = (),
    generation: int = 1,
    named: list[Path] | None = None,
    thorough: bool = True,
) -> Policy:
    """Composes files, then presets, into one policy: rules and lists are joined, the stricter of two stated scalars holds.

    A file's `extends` comes before its own rules; a file that is reached twice counts once. Raises PolicyError with every problem found.
    named: takes up every path that was looked for, as it was written, also those of a load that fails: what a watcher must watch.
    thorough: warns of rules at odds with each other too, which is for who writes a policy, and takes as long again.
    """
    with _collector_paused():
        return _load(_Composition(Findings(), named if named is not None else [], thorough), paths, presets, generation)


def _load(composition: _Composition, paths: Sequence[Path | str], presets: Sequence[str], generation: int) -> Policy:
    findings = composition.findings
    if not paths and not presets:
        findings.add(Place("policy"), "no_policy", "no policy is given", accepted="a file, or a preset: " + ", ".join(preset_names()))
    for path in paths:
        composition.include(Path(path), Place(str(path)), ())
    for preset in presets:
        found = preset_path(preset)
        if found is None:
            findings.add(Place(f"preset {preset}"), "unknown_preset", f"there is no preset `{preset}`", accepted=", ".join(preset_names()))
        else:
            composition.include(found, Place(str(found)), ())
    composition.whose()
    rules = composition.rules()
    composition.read_inbound()
    composition.read_privacy()
    rules = with_models(rules, composition.privacy.privacy)
    if findings.failed:
        raise PolicyError(_sorted(findings))
    composition.examine(rules)
    if findings.failed:
        raise PolicyError(_sorted(findings))
    return composition.policy(rules, generation)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """A load makes 100,000 objects for 1,000 rules and no cycle among them; looking for one takes as long as the load itself."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _sorted(findings: Findings) -> tuple[Problem, ...]:
    return tuple(sorted(findings.problems, key=lambda problem: (problem.path, problem.line, problem.column)))


@dataclass(slots=True)
class _Composition:
    """Documents in the order in which they count: a file given on the command line before what it extends, rules the other way round."""

    findings: Findings
    named: list[Path]
    thorough: bool
    documents: list[Document] = field(default_factory=list)
    sources: dict[Path, str] = field(default_factory=dict)
    drafts: dict[str, RuleDraft] = field(default_factory=dict)
    unnamed: list[RuleDraft] = field(default_factory=list)
    rego: Rego | None = None
    inbound: Stated = field(default_factory=dict)
    privacy: Routing = field(default_factory=Routing)
    closure: dict[Path, set[str]] = field(default_factory=dict)  # names of the rules that a file brought, with those it extends
    given: list[Path] = field(default_factory=list)  # by the user, not by `extends`
    extended: dict[Path, set[Path]] = field(default_factory=dict)  # by a file
    changed: list[tuple[Path, str, RuleDraft, Place]] = field(default_factory=list)  # by a file: rule, as it was, where it is said

    def include(self, path: Path, asked: Place, chain: tuple[Path, ...]) -> set[str]:
        """Reads one file and what it extends. asked: who wants it. Returns the names of its rules."""
        self.named.append(path)
        real = path.resolve()
        if chain:
            self.extended.setdefault(chain[-1], set()).add(real)
        else:
            self.given.append(real)
        if real in chain:
            loop = " → ".join(item.name for item in (*chain[chain.index(real) :], real))
            self.findings.add(asked, "extends_cycle", f"the files extend each other: {loop}")
            return set()
        if real in self.closure:
            return self.closure[real]
        document = self._read(path, asked)
        if document is None:
            return set()
        self.sources[real] = path.stem
        self.documents.append(document)
        inherited: set[str] = set()
        for entry in document.lists.get("extends", ()):
            target = self._target(path, entry)
            if target is not None:
                inherited |= self.include(target, entry.place, (*chain, real))
        self._change(real, document, inherited)
        for draft in document.rules:
            self._add(draft)
        self.closure[real] = inherited | {draft.name for draft in document.rules}
        return self.closure[real]

    def _read(self, path: Path, asked: Place) -> Document | None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # whatever is named by mistake, a log or a device, is not read to its end
        except OSError as error:
            self.findings.add(asked, "unreadable", f"cannot read {path}: {error.strerror}")
            return None
        root = compose(data, str(path), self.findings)
        return None if root is None else Reader(self.findings).document(root)

    def _target(self, path: Path, entry: Part[str]) -> Path | None:
        """A shipped preset, or a file beside the one that extends."""
        if entry.value.startswith(("./", "../", "/")) or entry.value.endswith((".yaml", ".yml")):
            return path.parent / entry.value
        found = preset_path(entry.value)
        if found is None:
            message = f"there is no preset `{entry.value}`" + meant(entry.value, [f"presets/{name}" for name in preset_names()])
            accepted = "presets/NAME, as `stockade presets` lists them, or ./file.yaml"
            self.findings.add(entry.place, "unknown_preset", message, accepted=accepted)
        return found

    def _change(self, file: Path, document: Document, inherited: set[str]) -> None:
        """Applies `override` and `remove` to what a document extends."""
        for name, override in document.override.items():
            if self._inherits(name, inherited, override.place) and name in self.drafts:
                base = self.drafts[name]
                self.changed.append((file, name, base, override.place))
                keys = {key: (said, _keeping_denied(value, base.keys.get(key))) for key, (said, value) in override.keys.items()}
                self.drafts[name] = RuleDraft(name, {**base.keys, **keys}, base.place, base.states_exec)
        for part in document.lists.get("remove", ()):
            if self._inherits(part.value, inherited, part.place) and (removed := self.drafts.pop(part.value, None)) is not None:
                self.changed.append((file, part.value, removed, part.place))

    def whose(self) -> None:
        """A file changes what it extends for itself. What reaches the policy past it too, given by the user or extended by another file, is
        not its own to change: two policies given together must never be looser than one of them.
        """
        for file, name, base, place in self.changed:
            origin = Path(base.place.path).resolve()
            if self._reached_past(file, origin):
                message = f"rule `{name}` of {base.place.path} is in force without this file, which cannot change it"
                accepted = "this file alone, or the rule under another name"
                self.findings.add(place, "shared_rule", message, accepted=accepted)

    def _reached_past(self, file: Path, origin: Path) -> bool:
        seen: set[Path] = {file}
        ahead = [given for given in self.given if given != file]
        while ahead:
            at = ahead.pop()
            if at == origin:
                return True
            if at not in seen:
                seen.add(at)
                ahead += self.extended.get(at, ())
        return False

    def _inherits(self, name: str, inherited: set[str], place: Place) -> bool:
        if name in inherited:
            return True
        accepted = ", ".join(sorted(inherited)) or "names of rules in the files under `extends`"
        message = f"no rule `{name}` is extended here{meant(name, inherited)}"
        self.findings.add(place, "unknown_rule", message, accepted=accepted)
        return False

    def _add(self, draft: RuleDraft) -> None:
        if not draft.name:
            self.unnamed.append(draft)
        elif draft.name in self.drafts:
            other = self.drafts[draft.name].place
            self.findings.add(draft.place, "duplicate_rule", f"rule `{draft.name}` already stands in {other.path}:{other.line}")
        else:
            self.drafts[draft.name] = draft

    def rules(self) -> tuple[Rule, ...]:
        """Every rule in order; those with an error are left out, their problems are in the findings."""
        parsed = [parse_rule(draft, position, self.findings) for position, draft in enumerate(self.drafts.values())]
        for draft in self.unnamed:
            parse_rule(draft, 0, self.findings)
        return tuple(rule for rule in parsed if rule is not None)

    def read_inbound(self) -> None:
        self.inbound = parse_inbound((entry for document in self.documents for entry in document.inbound), self.findings)

    def read_privacy(self) -> None:
        sections = [document.privacy for document in self.documents if document.privacy is not None]
        self.privacy = parse_privacy(sections, self._word, self.findings)
        self.named += self.privacy.files
        self.sources |= {path.resolve(): path.stem for path in self.privacy.files}

    def exec(self, rules: tuple[Rule, ...]) -> Exec:
        """A document that does not list what may run means the binaries of its rules."""
        return Exec(
            allow=tuple(self._allowed(rules)),
            deny=self._texts("exec.deny"),
            unlisted="no-network" if self._says("exec.unlisted", "no-network") else "refuse",
            writable=self._says("exec.writable", "true"),
            env=self._texts("exec.env"),
        )

    def examine(self, rules: tuple[Rule, ...]) -> None:
        """What can only be said of the whole."""
        if files := self._rego_files():
            self.named += files
            self.sources |= {path.resolve(): path.stem for path in files}
            self.rego = read(list(files.items()), self.findings)
        examine_inbound(self.inbound, rules, self.rego, self.findings)
        whole = Whole(rules, self.exec(rules), self.filesystem(), tuple(self.sources), self.origins(rules))
        examine(whole, load_families(), self.findings)
        examine_calls(self._seccomp(), whole.origins, self.findings)
        if self.privacy.privacy is not None:
            examine_routes(Examined(self.privacy.privacy, self.privacy.places, self.findings), rules)
        if self.thorough and not self.findings.failed:
            from stockade.policy.proof.conflicts import conflicts  # here: a running agent never asks

            conflicts(rules, whole.origins, self.findings)

    def _rego_files(self) -> dict[Path, Place]:
        """Each beside the file that names it."""
        files: dict[Path, Place] = {}
        for document in self.documents:
            for part in document.lists.get("rego", ()):
                files.setdefault(Path(part.place.path).parent / part.value, part.place)
        return files

    def filesystem(self) -> Filesystem:
        return Filesystem(*(self._texts(f"filesystem.{key}") for key in ("read", "write", "hide", "count")))

    def policy(self, rules: tuple[Rule, ...], generation: int) -> Policy:
        name = self._word("name")
        return Policy(
            name=name.value if name else next(iter(self.sources.values())),
            labels={key: part.value for key, part in self._pairs("labels").items()},
            mode="observe" if self._says("mode", "observe") else "enforce",
            best_effort=self._agreed("best_effort"),
            exec=self.exec(rules),
            filesystem=self.filesystem(),
            process=self._process(),
            inbound=inbound_of(self.inbound),
            on_audit_failure="continue" if self._says("on_audit_failure", "continue") else "deny",
            rules=rules,
            rego=self.rego,
            privacy=self.privacy.privacy,
            sources=tuple(self.sources),
            generation=generation,
            warnings=_sorted(self.findings),
            origins=self.origins(rules),
        )

    def _process(self) -> Process:
        user, pids, memory, cpu = (self._word(f"process.{key}") for key in ("user", "pids", "memory", "cpu"))
        return Process(
            user=user.value if user else None,
            env=tuple(self._environment()),
            pids=int(pids.value) if pids else None,
            memory=size(memory.value) if memory else None,
            cpu=float(cpu.value) if cpu else None,
            devices=self._texts("process.devices"),
            seccomp=self._seccomp(),
        )

    def _seccomp(self) -> Seccomp:
        return Seccomp(self._texts(ALLOW), self._texts(DENY))

    def origins(self, rules: tuple[Rule, ...]) -> Origins:
        words = {key: part.place for key in self._stated("words") if (part := self._word(key))}
        entries = {key: self._union(key) for key in self._stated("lists")} | {
            "exec.allow": self._allowed(rules),
            "inbound": places_of(self.inbound),
        }
        pairs = {key: {name: part.place for name, part in self._pairs(key).items()} for key in self._stated("pairs")}
        return Origins(words, entries | pairs | self.privacy.places, self.drafts)

    def _stated(self, kind: Literal["words", "lists", "pairs"]) -> dict[str, None]:
        """Every key of a kind that some document states."""
        return {key: None for document in self.documents for key in getattr(document, kind)}

    def _word(self, key: str) -> Part[str] | None:
        """What holds: the strict value where somebody states it, or else what is stated first."""
        parts = [part for document in self.documents if (part := document.words.get(key))]
        if key in _LIMITS and parts:
            return min(parts, key=lambda part: amount(part.value))
        strict = _STRICT.get(key, ())
        return min(parts, key=lambda part: strict.index(part.value) if part.value in strict else len(strict), default=None)

    def _says(self, key: str, value: str) -> bool:
        part = self._word(key)
        return part is not None and part.value == value

    def _union(self, key: str) -> dict[str, Place]:
        """The entries of every document's list, each once and with the place that named it first."""
        tidy = _directory if key.startswith("filesystem.") else str
        found: dict[str, Place] = {}
        for document in self.documents:
            for part in document.lists.get(key, ()):
                found.setdefault(tidy(part.value), part.place)
        return found

    def _agreed(self, key: str) -> frozenset[str]:
        """What every document has that states the list at all: none of them may give up what another insists on."""
        lists = [{part.value for part in document.lists[key]} for document in self.documents if document.lists.get(key)]
        return frozenset(set.intersection(*lists)) if lists else frozenset()

    def _texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._union(key))

    def _allowed(self, rules: tuple[Rule, ...]) -> dict[str, Place]:
        found = self._union("exec.allow")
        for rule in rules:
            if not self.drafts[rule.name].states_exec and any(name not in found for name in rule.binary.allow):
                named = Origins(rules=self.drafts).in_rule(rule.name, "binary.allow")
                found |= {name: place for name, place in named.items() if name not in found}
        return found

    def _pairs(self, key: str) -> dict[str, Part[str]]:
        found: dict[str, Part[str]] = {}
        for document in reversed(self.documents):  # the earlier document's own words count
            found.update(document.pairs.get(key, {}))
        return found

    def _environment(self) -> Iterator[tuple[str, str | None]]:
        for name, part in self._pairs("process.env").items():
            yield name, None if part.value == "inherit" else part.value


def _directory(text: str) -> str:
    return text.rstrip("/") or "/"


def _keeping_denied(value: Node, overridden: tuple[Scalar, Node] | None) -> Node:
    """What an override says of a level, with the deny list of what it overrides unless it states its own: a veto is not lost unsaid."""
    before = overridden[1] if overridden else None
    if not (isinstance(value, Mapping) and isinstance(before, Mapping)) or any(key.text == "deny" for key, _ in value):
        return value
    return Mapping((*value.entries, *(entry for entry in before.entries if entry[0].text == "deny")), value.place)
