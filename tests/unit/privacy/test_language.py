"""Code and configuration, told from prose: examples, and the files of this repository counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.privacy.documents import language

ROOT = Path(__file__).resolve().parents[3]


def kinds(text: str) -> set[str]:
    return {finding.category for finding in language.find(text)}


@pytest.mark.parametrize(
    "text",
    [
        "def total(items):\n    s = 0\n    for item in items:\n        s += item.price\n    return s\n",
        "#include <stdio.h>\n\nint main(void) {\n    printf(\"hi\\n\");\n    return 0;\n}\n",
        "const x = await fetch(url);\nif (!x.ok) {\n  throw new Error(x.status);\n}\n",
        "SELECT name, salary\nFROM staff\nWHERE site = 'B';\nINSERT INTO log VALUES (1);\n",
    ],
)  # fmt: skip
def test_code(text: str) -> None:
    assert kinds(text) == {"ip.source_code"}
    assert kinds("Please look at this, it fails on Mondays:\n\n" + text + "\nWhat do you think about it?\n") == {"ip.source_code"}


@pytest.mark.parametrize(
    "text",
    [
        "[client]\nuser = backup\nhost = db.internal\nport = 5432\n",
        "replicas: 3\nimage: shop/web:1.4\nports:\n  - containerPort: 8080\nenv:\n  - name: MODE\n    value: live\n",
        '{\n  "name": "shop",\n  "port": 8080,\n  "debug": false\n}\n',
        "DEBUG=false\nPORT=8080\nLOG_LEVEL=info\nREGION=eu-1\n",
        "<busconfig>\n  <limit name=\"auth_timeout\">5000</limit>\n  <user>bus</user>\n</busconfig>\n",
    ],
)  # fmt: skip
def test_configuration(text: str) -> None:
    assert kinds(text) == {"ip.configuration"}


@pytest.mark.parametrize(
    "text",
    [
        "Subject: the meeting on Monday\nFrom: Jane Doe\nTo: John Smith\nDate: Monday\n",
        "Name: Jane Doe\nDate of birth: 03/15/1962\nReason for visit: chest pain\nAllergies: none\n",
        "arch: David Smith, Karel Black\nbase32: Simon Jones\ncat: Richard Miller\nchmod: Jim Brown\n",
        "Milk: buy two litres of it today\nbread: the dark one from the corner\napples: some of the red ones\n",
        "- write to all of the customers\n- order more of the paper\n- call the people in Berlin\n- book the large room\n",
        "<html>\n<head><title>News</title></head>\n<body>\n<p>Nothing new today</p>\n</body>\n</html>\n",
        "Dear all,\n\nthe office is closed on Monday.\nPlease take your plants home.\n\nBest wishes\nJane\n",
        "one\ntwo\nthree\n",
    ],
)
def test_what_people_write_to_each_other_is_neither(text: str) -> None:
    assert kinds(text) == set()


def test_a_fence_says_what_is_in_it() -> None:
    for tag, expected in (("python", {"ip.source_code"}), ("yaml", {"ip.configuration"}), ("text", set())):
        assert kinds(f"so:\n```{tag}\na: 1\nb: 2\nc: 3\n```\n") == expected


def test_the_files_of_this_repository() -> None:
    """Of its modules nearly all are code; of its policies nearly all are configuration; the texts that open its modules are neither."""
    modules = [path.read_text() for path in sorted((ROOT / "agent" / "stockade").rglob("*.py")) if path.stat().st_size > 1000]
    policies = [path.read_text() for path in sorted((ROOT / "policies").rglob("*.yaml"))]
    assert len(modules) > 100
    assert len(policies) > 5
    code = sum("ip.source_code" in kinds(text) for text in modules)
    settings = sum("ip.configuration" in kinds(text) for text in policies)
    assert code >= 0.95 * len(modules)
    assert settings >= 0.9 * len(policies)
    paragraphs = [
        "\n".join(docstring.strip().splitlines())
        for text in modules
        if (docstring := text.split('"""')[1]).count("\n") >= language.LEAST_LINES
    ]
    assert len(paragraphs) > 50
    assert sum(bool(kinds(text)) for text in paragraphs) <= 0.03 * len(paragraphs)
