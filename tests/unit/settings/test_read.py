"""The settings file: who may have written it, what it says, and what is said of what is wrong with it.

`STOCKADE_GOLDEN=write pytest tests/unit/settings` writes docs/settings.md and the .txt files of tests/golden/settings anew.
"""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from stockade.policy.format.schema import Reader
from stockade.settings import Audit, Checkpoint, Configured, Rotate, SettingsError, Sink, configured, read
from stockade.settings.codes import OWN, SettingsFindings
from stockade.settings.kubernetes import Kubernetes
from stockade.settings.part import Part, seconds
from stockade.settings.reference import renewed
from stockade.settings.sinks import Batch, Tls
from stockade.settings.spec import SETTINGS
from stockade.types import StockadeError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "settings"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stockade.yaml"


def problems(file: Path) -> str:
    with pytest.raises(SettingsError) as error:
        read(file)
    return "".join(f"{problem}\n" for problem in error.value.problems)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.yaml")))
def test_a_bad_file_says_everything_that_is_wrong_with_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy: who owns a checkout, and what may be written above it, is not the test's to say."""
    (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    text = problems(Path(name))
    golden = GOLDEN / name.replace(".yaml", ".txt")
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_code_of_its_own_is_in_a_golden_file() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.txt"))
    assert [code for code in OWN if f"[{code}]" not in text and code != "not_private"] == []  # that one has its own tests


def test_the_page_is_fresh() -> None:
    page = ROOT / "docs" / "settings.md"
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert ", generated -->" in text and text == renewed(text)
    for record in SETTINGS.keys:
        assert f"\n| `{record.name}` |" in text


def test_the_example_of_the_page_is_read(file: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    file.write_text(page.split("```yaml\n")[1].split("```")[0])
    found = read(file).audit
    assert found.rotate == Rotate(256 << 20, 86400.0, 90)
    assert [sink.name for sink in found.sinks] == ["syslog", "splunk"]


def test_a_node_of_a_cluster(file: Path) -> None:
    file.write_text("""\
kubernetes:
  node: node1
  kubeconfig: /etc/kubernetes/kubeconfig
  state: /srv/state
  kubelet: /srv/kubelet
  unmatched: deny
  networks: [10.0.0.1, "fd00::/64"]
""")
    networks = (ip_network("10.0.0.1"), ip_network("fd00::/64"))
    wanted = Kubernetes("node1", Path("/etc/kubernetes/kubeconfig"), Path("/srv/state"), Path("/srv/kubelet"), "deny", networks)
    assert read(file).kubernetes == wanted


def test_what_is_not_said_is_at_its_default(file: Path) -> None:
    file.write_text("version: 1\n")
    assert read(file) == Configured(file)
    assert configured(None, default=file) == Configured(file)
    assert configured(None, default=file.with_name("absent.yaml")) == Configured()


def test_everything_that_can_be_said(file: Path) -> None:
    file.write_text("""\
audit:
  directory: /var/log/elsewhere
  key: /etc/stockade/audit.key
  pin: /mnt/pins
  rotate: {size: 1Gi, age: 12h, keep: 3}
  checkpoint: {records: 10, seconds: 0.5}
  drain: 250ms
  sinks:
    - {type: file, path: "/var/log/{trail}.ocsf", format: ocsf, rotate: {age: 5m}, behind: 4M}
    - {type: syslog, address: "[::1]:6514", facility: audit, ca: /ca.pem, certificate: /own.pem, key: /own.key, timeout: 3s}
    - type: http
      product: sentinel
      url: https://dce.example.com
      token: env:SECRET
      tenant: t
      client: c
      rule: dcr-1
      stream: Custom-Stockade
    - {type: http, url: "https://hook", headers: {Authorization: "file:/token", X-Org: "1"}, batch: {records: 2, size: 4K, wait: 20ms}}
""")
    turning = Rotate(1 << 30, 43200.0, 3)
    assert read(file).audit == Audit(
        Path("/var/log/elsewhere"),
        Path("/etc/stockade/audit.key"),
        Path("/mnt/pins"),
        turning,
        Checkpoint(10, 0.5),
        (
            Sink("file", "file", "ocsf", "/var/log/{trail}.ocsf", Rotate(1 << 30, 300.0, 3), behind=4 << 20),
            Sink(
                "syslog",
                "syslog",
                rotate=turning,
                host="::1",
                port=6514,
                facility="audit",
                tls=Tls(Path("/ca.pem"), Path("/own.pem"), Path("/own.key")),
                timeout=3.0,
            ),
            Sink(
                "http",
                "sentinel",
                rotate=turning,
                product="sentinel",
                url="https://dce.example.com",
                token="env:SECRET",
                tenant="t",
                client="c",
                rule="dcr-1",
                stream="Custom-Stockade",
            ),
            Sink(
                "http",
                "webhook",
                rotate=turning,
                product="webhook",
                url="https://hook",
                headers={"Authorization": "file:/token", "X-Org": "1"},
                batch=Batch(2, 4096, 0.02),
            ),
        ),
        0.25,
    )


@pytest.mark.parametrize(("text", "length"), [("500ms", 0.5), ("10s", 10), ("5m", 300), ("12h", 43200), ("30d", 2592000)])
def test_lengths_of_time(text: str, length: float) -> None:
    assert seconds(text) == length


def test_a_part_that_is_absent_has_every_default() -> None:
    part = Part(None)
    assert (part.text("x"), part.flag("x", True), part.parts("x"), part.pairs("x"), list(part)) == (None, True, [], {}, [])
    assert Reader(SettingsFindings()).findings.problems == []


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    file.write_text("version: 1\n")
    file.chmod(mode)
    assert "can be written by others [not_private]" in problems(file)


@pytest.mark.root
def test_so_is_one_of_somebody_else(file: Path) -> None:
    file.write_text("version: 1\n")
    os.chown(file, 1000, 0)
    assert "belongs to uid 1000 [not_private]" in problems(file)


@pytest.mark.root
def test_so_is_one_in_a_directory_where_another_could_be_put_in_its_place(tmp_path: Path) -> None:
    below = tmp_path / "open"
    below.mkdir()
    below.chmod(0o777)
    (below / "stockade.yaml").write_text("version: 1\n")
    assert f"{below} can be written by others" in problems(below / "stockade.yaml")
    link = tmp_path / "link.yaml"  # that leads there
    link.symlink_to(below / "stockade.yaml")
    assert "[not_private]" in problems(link)
    below.chmod(0o1777)  # as /tmp is
    assert read(link).file == link


def test_an_error_does_not_repeat_a_secret() -> None:
    assert "hunter2" not in (GOLDEN / "mistakes.txt").read_text(encoding="utf-8")
    assert "Bearer" not in (GOLDEN / "mistakes.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("made", ["absent", "directory", "loop"])
def test_what_cannot_be_read_is_said(file: Path, made: str) -> None:
    if made == "directory":
        file.mkdir()
    elif made == "loop":
        file.symlink_to(file)
    assert "[unreadable]" in problems(file)


def test_the_error_of_a_command_says_where_to_look(file: Path) -> None:
    file.write_text("audit: 5\n")
    with pytest.raises(StockadeError) as error:
        configured(file)
    assert (error.value.code, error.value.hint) == ("settings", "docs/settings.md lists every key")
