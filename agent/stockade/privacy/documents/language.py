"""Source code and configuration, told from prose by the lines they are made of.

A model for file types would be surer on whole files, but the one that is kept well asks for the CPU build of onnxruntime, which cannot
stand beside the GPU build; and what is pasted into a prompt is a part of a file between two sentences. How often
the lines are right is counted on the files of this repository by tests/unit/privacy/test_language.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stockade.privacy import deadline
from stockade.privacy.finding import Finding

LEAST_LINES = 3

_FENCE_LINE = re.compile(r"(?m)^[ \t]{0,8}(?:```|~~~)[ \t]*([\w+#.-]{0,20})([^\n]*)(?:\n|\Z)")
_CONFIG_TAG_WORDS = "yaml yml json toml ini conf cfg xml properties env dotenv nginx apache hcl tf dockerfile plist"
_CONFIG_TAGS = frozenset(_CONFIG_TAG_WORDS.split())
_PROSE_TAG_WORDS = "text txt markdown md plain plaintext csv log output console"
_PROSE_TAGS = frozenset(_PROSE_TAG_WORDS.split())

_CODE_LINE = re.compile(
    r"""(?x)^\s*(?:
    (?:import|from)\s+[\w.{*'"@]+.* | (?:async\s+)?def\s+\w+\s*\(.* |
    (?:(?:public|private|protected|internal|abstract|final|static|export|default|sealed|data|pub)\s+)*(?:class|interface|trait|impl|
    struct|enum|namespace|module|package|record)\s+[\w<>:.]+.*[{:;(]?\s*$ |
    (?:export\s+|default\s+|async\s+)*function\b\s*\*?\s*\w*\s*\(.* |
    (?:const|let|var|val|final|auto|static|constexpr|mut)\s+[\w\[\]{},<>*&: ]+\s*[:=].* | (?:pub\s+)?fn\s+\w+.* |
    func\s+(?:\(.*\)\s*)?\w+\s*\(.* |
    \#\s*(?:include|define|ifdef|ifndef|endif|if\s+defined|pragma|undef|else)\b.* | @\w+(?:\(.*\))?\s*$ | \#!.*/(?:bin|env).* |
    <\?(?:php|xml).* | //.* | /\*.* | \*/.* | \*\s.* | \#\s.* | --\s.* |
    (?:if|elif|for|while|switch|catch|foreach|unless|until|with|match)\b.*[:{]\s*$ | (?:if|for|while|switch|foreach|else\s+if)\s*\(.* |
    (?:else|try|finally|do|begin|then|fi|done|esac|end|endif|loop)\s*[:{;]?\s*$ |
    (?:return|raise|throw|yield|break|continue|await|assert|del|pass|goto|echo|printf?|puts|local|declare|exit)\b(?:[\s(].*)?;?$ |
    \}?\s*(?:else|catch|finally)\b.*\{?\s*$ |
    [)\]}]+[;,)]*\s*$ | .*[{;]\s*$ | .*(?:=>|->|::|\+\+|&&|\|\||===?|!==?|:=|<<|>>)\s*.*[\w)\];{]$ |
    [\w.\[\]'">*&-]+\s*(?:[-+*/%|&^]|<<|>>)?=\s*\S.* | [\w.>:-]+\(.*\)?[,;:{]?\s*$ |
    (?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WHERE|FROM|JOIN|LEFT|GROUP|ORDER|VALUES)\b.* |
    </?[a-zA-Z][\w.-]*(?:\s[^<>]*)?/?>.* | [\w"'.-]+\s*[,(\[]\s*$ | \w+\s+\w+\(.*\)\s*\{?$ | ["'].*["'],?\s*$ | \$\w+.*
    )$"""
)
_STRONG = re.compile(
    r"(?:^\s*(?:import\s+\w[\w.]*\s*;?$|from\s+[\w.]+\s+import\b|(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[({:]|#\s*(?:include|define|"
    r"ifn?def|pragma)\b|function\b\s*\w*\s*\(|(?:const|let|var)\s+[\w{\[]|(?:public|private|protected|static)\s|pub\s|fn\s+\w+|func\s|"
    r"return\b|package\s+\w|using\s+\w|#!/)|[;{}]\s*$|=>|->\w|::\w|\w\(.*\)\s*[;{:]?\s*$|\s[!=]==?\s|(?:^|\s)(?:SELECT\s.*\sFROM|"
    r"INSERT\s+INTO|CREATE\s+TABLE)\b)"
)
_CONFIG_LINE = re.compile(
    r"""(?x)^\s*(?:
    [\w.\-/"'@$]+\s*[:=]\s*(?:["'\[{|>&*!-].*|[^\s].{0,120})?$ | \[{1,2}[\w.:\-/ "@]+\]{1,2}\s*$ | -\s+[\w."'/$-]+.{0,120}$ |
    "[^"]+"\s*:\s*.* | [{}\[\]],?\s*$ | </?[\w:.-]+(?:\s[^<>]*)?>.* | [#;].* | !.* |
    (?:server|listen|location|upstream|Listen|ServerName|DocumentRoot|LoadModule|Include|Host|HostName|User|Port|IdentityFile|Option|
    FROM|RUN|COPY|ENV|EXPOSE|CMD|ENTRYPOINT|WORKDIR|ARG|ADD|interface|ip|route|network|address)\s+\S.* | export\s+\w+=.*
    )$"""
)
_SETTING = re.compile(
    r"""^\s*(?:-\s+)?(?:["'][\w.\-/ @$]+["']|[\w.\-/@$]+)\s*(?:=|:(?=\s|$))\s*\S?|^\s*\[{1,2}[\w.:\-/"@]+\]{1,2}\s*$|^\s*<[\w:.-]+"""
)
_JSON_LINE = re.compile(r"""^\s*(?:"[^"]*"\s*:.*|[{}\[\]]+,?|"[^"]*",?|[-0-9.]+,?)\s*$""")
# Lines that look like settings and are none: the head of a mail or a form (`Subject: …`), a name or a sentence behind a colon, an item of
# a list, the tags of a page.
_NO_SETTING = re.compile(
    r"""(?x)^(?:
    [A-Z][A-Za-z]*(?:[-\x20/][A-Za-z]+){0,4}:\s+\S | \s*-\s+(?:[\w()'<>,/]+\x20){3} |
    \s*[\w.-]+:\s+(?!["'\[{|>&*!-])(?:[\w'()&.,©]+\x20){2,}[\w'()&.,-]+ | \s*[\w.-]+:\s+[A-Z][a-z]+\x20[A-Z][A-Za-z]+\b |
    \s*</?(?:html|head|body|title|meta|link|script|style|div|span|p|a|ul|ol|li|dl|dt|dd|table|tbody|thead|tr|td|th|h[1-6]|br|hr|img|pre|code|
    strong|em|b|i|tt|blockquote|form|section|article|nav|footer|header|main)\b
    )"""
)
_PROSE_LINE = re.compile(r"(?:^|\s)(?:[A-Za-z'’,-]+ ){5,}[A-Za-z'’-]+[.?!,:)]?(?:\s|$)|^[A-Z][a-z]+(?: [a-z'’]+){3,}")


def find(text: str) -> Iterator[Finding]:
    if text.count("\n") < LEAST_LINES - 1:
        return
    rest: list[tuple[int, int]] = []
    last = 0
    for start, body, close, end, tag in _fences(text):
        rest.append((last, start))
        last = end
        category = _fenced(tag, text[body:close])
        if category:
            yield Finding(body, close, category, "document:fenced", 0.9)
    rest.append((last, len(text)))
    for start, end in rest:
        yield from _runs(text, start, end)


def _fences(text: str) -> Iterator[tuple[int, int, int, int, str]]:
    """Each fence that is closed: where it starts, its body, where that ends, where the closing line ends, and its tag.

    One pass: an expression from fence to fence would go through the rest of the text for each that is never closed.
    """
    opened: re.Match[str] | None = None
    for line in _FENCE_LINE.finditer(text):
        if opened is None:
            opened = line
        elif not line.group(1) and not line.group(2).strip():
            yield opened.start(), opened.end(), line.start(), line.end(), opened.group(1).lower()
            opened = None


def _fenced(tag: str, body: str) -> str | None:
    if not body.strip() or tag in _PROSE_TAGS:
        return None
    if tag:
        return "ip.configuration" if tag in _CONFIG_TAGS else "ip.source_code"
    return kind(body.splitlines())[0]


def kind(lines: list[str]) -> tuple[str | None, float]:
    """What a run of lines is, and how sure that is: the share of its lines that look like it."""
    lines = [line[:300] for line in lines if line.strip()]
    if not lines:
        return None, 0.0
    prose = sum(
        _PROSE_LINE.search(line) is not None and not _STRONG.search(line) and not line.lstrip().startswith(("#", "//", "*", "--"))
        for line in lines
    )
    code = sum(_CODE_LINE.match(line) is not None for line in lines)
    strong = sum(_STRONG.search(line) is not None for line in lines)
    config = sum(_CONFIG_LINE.match(line) is not None for line in lines)
    settings = sum(_SETTING.match(line) is not None for line in lines)
    others = sum(_NO_SETTING.match(line) is not None for line in lines)
    count = len(lines)
    if prose / count > 0.5 and strong / count < 0.25:
        return None, 0.0
    if config / count >= 0.8 and settings / count >= 0.4 and all(_JSON_LINE.match(line) for line in lines):
        return "ip.configuration", 0.9
    if strong / count >= 0.2 and code / count >= 0.5 and not (settings / count > 0.7 and strong / count < 0.35):
        return "ip.source_code", min(0.95, 0.4 + code / count / 2 + min(strong / count, 0.2))
    if config / count >= 0.8 and settings / count >= 0.4 and others / count < 0.4:
        return "ip.configuration", min(0.9, 0.3 + config / count / 2)
    return None, 0.0


def _runs(text: str, start: int, end: int) -> Iterator[Finding]:
    """Paragraphs that are of one kind, put together where they follow each other."""
    current: tuple[int, int, str, float, int] | None = None
    for match in re.finditer(r"(?:[^\n]*\S[^\n]*(?:\n|$))+", text[start:end]):
        deadline.keep()
        lines = match.group().splitlines()
        category, score = kind(lines)
        first, last = start + match.start(), start + match.end()
        if current and category == current[2]:
            current = (current[0], last, current[2], max(current[3], score), current[4] + len(lines))
        elif current and category is None and len(lines) < 3 and not _PROSE_LINE.search(match.group()):
            continue
        else:
            if current and current[4] >= LEAST_LINES:
                yield Finding(current[0], current[1], current[2], "document:lines", round(current[3], 2))
            current = (first, last, category, score, len(lines)) if category else None
    if current and current[4] >= LEAST_LINES:
        yield Finding(current[0], current[1], current[2], "document:lines", round(current[3], 2))
