"""The policy: YAML in, one frozen Policy out, and the one function that decides by it.

In reading order: format/ (how it is written) · hosts, paths, inbound (what rules say) · rego/ · families, presets · load (files composed) ·
model (the value) · index, trie, literals, ruling · decide, own · addresses (what is never dialled).

What is made of policies: question (what people ask), cases/ (policy tests) · proof/ (for every request there can be) · making/ (from trails
and other formats).
"""

from stockade.policy.addresses import refused_range
from stockade.policy.decide import decide
from stockade.policy.families import Families, Family, load_families, loader_variables
from stockade.policy.format.problems import PolicyError, Problem
from stockade.policy.hosts import HostPattern, normalise_host
from stockade.policy.load import load
from stockade.policy.model import Destination, Exec, Filesystem, Names, Paths, Policy, Process, Rule
from stockade.policy.presets import DEFAULT, Preset, presets

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
