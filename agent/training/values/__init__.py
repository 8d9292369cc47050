"""The values that fill a template's slots: names, numbers, addresses, clinical terms. Each split draws from lists of its own.

Numbers are made by chance and meet only by chance.
"""

from __future__ import annotations

from training.values.clinical import Clinical
from training.values.numbers import Numbers
from training.values.organisations import Organisations
from training.values.times import Times
from training.values.web import Web


class Values(Organisations, Web, Numbers, Times, Clinical):
    """Draws values for one text. The same seed gives the same values."""
