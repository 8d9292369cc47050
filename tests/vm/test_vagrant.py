"""vagrant/: the Vagrantfile is Ruby, and its script makes of a Debian 13 what it says. tests/vm/debian13.py tells what is done where.

The box is booted by `make test-kernels` alone: two boots of a whole system under emulation take a quarter of an hour.
What becomes of Stockade as a service in it, test_service.py says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from vm import debian13
from vm.debian13 import ROOT, Step

SCRIPT, FILE = ROOT / "vagrant/provision.sh", ROOT / "vagrant/Vagrantfile"
pytestmark = pytest.mark.skipif(os.environ.get("STOCKADE_VM") == "guest", reason="this is the guest")


def test_the_vagrantfile_is_ruby() -> None:
    if not shutil.which("ruby"):
        pytest.skip("no ruby to check it with (apt-get install ruby)")
    done = subprocess.run(["ruby", "-wc", FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "Syntax OK", "")


def test_the_vagrantfile_runs_the_script_with_verbs_that_it_has() -> None:
    """Both providers; a reboot between `prepare` and `check`."""
    text = FILE.read_text()
    asked = re.findall(r'inline: "#\{script\} (\w+)', text)
    known = re.findall(r"^    (\w+)\)|^    (\w+)\|(\w+)\)", SCRIPT.read_text(), re.MULTILINE)
    assert asked == ["prepare", "check", "check"] and set(asked) <= {name for names in known for name in names}
    assert 'provider "libvirt"' in text and 'provider "virtualbox"' in text and re.search(r'"prepare".*reboot: true', text)
    assert (ROOT / text.partition('script = "/home/vagrant/stockade/')[2].partition('"')[0]) == SCRIPT


def test_a_verb_that_it_has_not_changes_nothing_and_shows_those_that_it_has() -> None:
    done = subprocess.run([SCRIPT, "improve"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "provision.sh [CHECKOUT] prepare" in done.stdout


def test_the_script_comes_to_its_end_each_time(steps: dict[str, Step]) -> None:
    failed = {name: step.said for name, step in steps.items() if step.status and name != "service"}
    assert not failed and {"prepare", "again", "third", "check"} <= set(steps), (failed, debian13.console())


def test_the_second_run_changes_nothing(steps: dict[str, Step]) -> None:
    assert "on from the next boot: reboot" in steps["prepare"].said
    assert "says so already: reboot" in steps["again"].said
    assert steps["first"].said == steps["second"].said and "zz-stockade.cfg" in steps["first"].said


def test_bpf_is_an_lsm_after_the_reboot_and_what_was_on_stays_on(steps: dict[str, Step]) -> None:
    before, after = (steps[name].said.strip().split(",") for name in ("before", "after"))
    assert "bpf" not in before and sorted(after) == sorted([*before, "bpf"])
    assert steps["line"].said.split()[-1].startswith("lsm=") and steps["line"].said.strip().endswith(",bpf")
    assert "BPF LSM is on" in steps["third"].said


def test_doctor_names_the_backend_and_its_tests_pass_there(steps: dict[str, Step]) -> None:
    said = steps["check"].said
    assert re.search(r"^available +exec refusal by BPF LSM", said, re.MULTILINE), said
    assert re.search(r"\b\d+ passed", said) and "skipped" not in said.splitlines()[-1], said
