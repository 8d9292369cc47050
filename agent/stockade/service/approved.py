"""The file of what was approved for always: a bare list of rules that `stockade run --approvals FILE` reads beside the policy.

Its rules open hosts to binaries; what may run is the policy's alone, so a rule here enrols nothing and a list of binaries is not implied.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

from stockade.policy import Policy, PolicyError, load
from stockade.policy.format.document import Findings, Listing, compose
from stockade.service.approvals import with_rules
from stockade.types import StockadeError

_HEAD = """\
# What was approved with `stockade approvals approve --always`. Read beside the policy at start and at every reload.
# To take an approval back, delete its rule.
"""


class Approved:
    """One file. What changes it writes a new one and renames it: a reader never sees half of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Empty, unless it is there. Raises StockadeError."""
        try:
            with contextlib.suppress(FileExistsError):
                self._new(self.path, _HEAD, 0o600)
        except OSError as error:
            raise StockadeError(f"--approvals {self.path}: {error.strerror}", code="bad_approvals") from None

    def beside(self, policy: Policy, named: list[Path]) -> Policy:
        """The policy with these rules behind its own. Raises PolicyError."""
        named.append(self.path)
        sourced = dataclasses.replace(policy, sources=(*policy.sources, self.path.resolve()))
        with contextlib.suppress(OSError):  # load says why
            data = self.path.read_bytes()
            if not any(line.strip() and not line.lstrip().startswith(b"#") for line in data.splitlines()):
                return sourced
            findings = Findings()
            root = compose(data, str(self.path), findings)
            if root is not None and not isinstance(root, Listing):
                said = "the file of approvals is a bare list of rules: everything else is the policy's to say"
                findings.add(root.place, "wrong_type", said, accepted="- name: …")
                raise PolicyError(findings.problems)
        return with_rules(sourced, load([self.path]).rules)

    def add(self, text: str) -> None:
        """One more rule, as an entry of the list. Raises OSError."""
        before = self.path.read_text()
        self._write(before + ("" if before.endswith("\n") or not before else "\n") + text)

    def remove(self, text: str) -> None:
        """Take out what `add` put in, if it is still there as it was. Raises OSError."""
        self._write(self.path.read_text().replace(text, "", 1))

    def _write(self, text: str) -> None:
        target = self.path.resolve()
        new = target.with_name(f".{target.name}.{os.getpid()}")
        mode = target.stat().st_mode & 0o777
        try:
            self._new(new, text, mode)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)

    @staticmethod
    def _new(path: Path, text: str, mode: int) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        with open(descriptor, "w") as file:  # noqa: PTH123 (a descriptor)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
