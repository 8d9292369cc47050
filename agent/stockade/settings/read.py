"""Reading the settings file: who may have written it, and everything that is wrong with it at once."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stockade.policy.format.document import Mapping, Place, compose
from stockade.policy.format.problems import Problem
from stockade.policy.format.schema import Reader
from stockade.settings.audit import Audit, audit
from stockade.settings.ca import ca
from stockade.settings.codes import SettingsFindings
from stockade.settings.kubernetes import Kubernetes, kubernetes
from stockade.settings.metrics import Metrics, metrics
from stockade.settings.part import Part
from stockade.settings.spec import SETTINGS
from stockade.signing.settings import Ca
from stockade.types import StockadeError

DEFAULT = Path("/etc/stockade/stockade.yaml")

_SECRET = frozenset({"bad_secret", "secret_in_clear"})  # the line may hold one, and errors end up in logs


class SettingsError(StockadeError):
    """Settings that cannot be used; `problems` holds all that is wrong with them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)), hint="docs/settings.md lists every key", code="settings")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Configured:
    """What a settings file says. file None: there is none, and everything is at its default."""

    file: Path | None = None
    audit: Audit = field(default_factory=Audit)
    metrics: Metrics = field(default_factory=Metrics)
    ca: Ca = field(default_factory=Ca)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)


def configured(file: Path | None, *, default: Path = DEFAULT) -> Configured:
    """Of the file that was named, else of the default one when it exists. Raises SettingsError."""
    if file is not None:
        return read(file)
    return read(default) if os.path.lexists(default) else Configured()


def read(file: Path) -> Configured:
    """Raises SettingsError."""
    findings = SettingsFindings()
    data = _owned(file, findings)
    found = None if data is None else _understood(data, file, findings)
    secret = {problem.line for problem in findings.problems if problem.code in _SECRET}
    problems = [replace(problem, source="") if problem.line in secret else problem for problem in findings.problems]
    problems.sort(key=lambda problem: (problem.line, problem.column))
    if found is None or findings.failed:
        raise SettingsError(problems)
    return found


def _understood(data: bytes, file: Path, findings: SettingsFindings) -> Configured | None:
    root = compose(data, str(file), findings, holds="configuration", accepted="a mapping with " + ", ".join(SETTINGS.by_name))
    if root is None:
        return None
    fits = Reader(findings).read(root, SETTINGS, "")
    if not isinstance(fits, Mapping):
        return None
    whole = Part(fits)
    return Configured(
        file.absolute(),
        audit(whole.part("audit"), findings),
        metrics(whole.part("metrics"), findings),
        ca(whole.part("ca"), findings),
        kubernetes(whole.part("kubernetes"), findings),
    )


def _owned(file: Path, findings: SettingsFindings) -> bytes | None:
    """The content, when nobody but root can have put it there: whoever writes it can send the evidence elsewhere, or nowhere."""
    place = Place(str(file))
    try:
        real = file.resolve(strict=True)
        fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as opened:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                findings.add(place, "unreadable", f"{file} is not a regular file")
                return None
            _private(place, str(file), about, findings)
            for above in real.parents:
                _private(place, str(above), above.stat(), findings)
            return opened.read()
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        findings.add(place, "unreadable", f"cannot read {file}: {why}", accepted="a file that is there")
        return None


def _private(place: Place, path: str, about: os.stat_result, findings: SettingsFindings) -> None:
    """A sticky directory, as /tmp, lets nobody replace what another owns."""
    sticky = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX
    if about.st_uid != 0:
        findings.add(place, "not_private", f"{path} belongs to uid {about.st_uid}", accepted=f"chown root {path}")
    elif about.st_mode & 0o022 and not sticky:
        findings.add(place, "not_private", f"{path} can be written by others", accepted=f"chmod go-w {path}")
