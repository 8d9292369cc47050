"""The policy: YAML in, one frozen Policy out, and the one function that decides by it.

In reading order: document (YAML with places) · problems, codes (what can be wrong) · shapes, spec (which keys there are) · schema (a
document held to that) · rules, hosts, paths (what a rule may say) · rego · load (files composed) · origins (where each line comes from) ·
lint, overlaps, conflicts, absent (what deserves a look) · model (the value) · index, trie, ruling · literals · decide · addresses (what
is never dialled) · families (what a binary's name stands for) · presets.

What is made of policies: show · json_schema, reference · suite, testing, coverage · space, language, spelling, prove, diff · learn,
generalise, unused · openshell, writing.
"""

from stockade.policy.addresses import refused_range
from stockade.policy.decide import decide
from stockade.policy.families import Families, Family, load_families, loader_variables
from stockade.policy.hosts import HostPattern, normalise_host
from stockade.policy.load import load
from stockade.policy.model import Destination, Exec, Filesystem, Names, Paths, Policy, Process, Rule
from stockade.policy.presets import DEFAULT, Preset, presets
from stockade.policy.problems import PolicyError, Problem

__all__ = [
    "DEFAULT",
    "Destination",
    "Exec",
    "Families",
    "Family",
    "Filesystem",
    "HostPattern",
    "Names",
    "Paths",
    "Policy",
    "PolicyError",
    "Preset",
    "Problem",
    "Process",
    "Rule",
    "decide",
    "load",
    "load_families",
    "loader_variables",
    "normalise_host",
    "presets",
    "refused_range",
]
