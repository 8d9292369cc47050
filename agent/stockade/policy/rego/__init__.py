"""Rego beside the rules: read · module (what is known without evaluating) · judge and engine (the process that evaluates) · weigh."""

from stockade.policy.rego.module import Module, Rego, Scope
from stockade.policy.rego.read import read

__all__ = ["Module", "Rego", "Scope", "read"]
