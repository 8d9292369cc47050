"""What holds many is looked at once for those who ask in one moment, and a loss is told to each of them."""

from __future__ import annotations

from typing import cast

import pytest

from stockade.kernel.links import Link
from stockade.service import enforcement
from stockade.service.enforcement import Common


class Held:
    """A link, as far as who looks at it knows one."""

    def __init__(self) -> None:
        self.looks, self.words = 0, None

    def lost(self) -> str | None:
        self.looks += 1
        return self.words

    words: str | None


def test_who_asks_in_one_moment_is_answered_by_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcement, "GOOD", 600.0)
    links = [Held(), Held()]
    common = Common(cast(list[Link], links))
    assert [common.lost() for _ in range(50)] == [[]] * 50
    assert [link.looks for link in links] == [1, 1]


def test_a_loss_is_told_to_everybody_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcement, "GOOD", 600.0)
    link = Held()
    common = Common(cast(list[Link], [link]))
    assert common.lost() == []
    link.words = "connect4 was detached"
    monkeypatch.setattr(enforcement, "GOOD", -1.0)
    first = common.lost()
    monkeypatch.setattr(enforcement, "GOOD", 600.0)
    first.append("its own")
    assert common.lost() == ["connect4 was detached"], "what one of them adds is not the others'"
