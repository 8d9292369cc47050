#!/usr/bin/env python3
"""Prints what an image is made of, as CycloneDX 1.6 JSON: Debian's packages by dpkg's own list, and Python's by the metadata beside them.

    sbom.py ROOT…      directories that become the image's layers, the lowest first

https://cyclonedx.org/docs/1.6/json/, and https://github.com/package-url/purl-spec for the names. No time and no random number: the same
image has the same list.
"""

from __future__ import annotations

import email.parser
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

_RELEASE = "debian-13"


def debian(root: Path) -> Iterator[dict[str, Any]]:
    """Raises OSError where the root has no dpkg."""
    for paragraph in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status") != "install ok installed":
            continue
        name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
        yield {
            "type": "library",
            "bom-ref": (purl := f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={arch}&distro={_RELEASE}"),
            "name": name,
            "version": version,
            "purl": purl,
            "supplier": {"name": fields["Maintainer"]},
            "description": fields["Description"],
        }


def python(root: Path) -> Iterator[dict[str, Any]]:
    for metadata in root.glob("opt/stockade/lib/python3.*/site-packages/*.dist-info/METADATA"):
        fields = email.parser.Parser().parsestr(metadata.read_text(errors="replace"))
        name, version = re.sub(r"[-_.]+", "-", fields["Name"]).lower(), fields["Version"]
        found: dict[str, Any] = {
            "type": "application" if name == "stockade" else "library",
            "bom-ref": (purl := f"pkg:pypi/{name}@{quote(version, safe='')}"),
            "name": name,
            "version": version,
            "purl": purl,
        }
        if fields["Summary"]:
            found["description"] = fields["Summary"]
        if fields["License-Expression"]:
            found["licenses"] = [{"expression": fields["License-Expression"]}]
        elif fields["License"] and "\n" not in fields["License"]:
            found["licenses"] = [{"license": {"name": fields["License"]}}]
        yield found


def listed(roots: list[Path]) -> dict[str, Any]:
    """The whole document."""
    components = sorted([*debian(roots[0]), *(each for root in roots for each in python(root))], key=lambda each: str(each["bom-ref"]))
    when = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    stockade = next(each for each in components if each["name"] == "stockade")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components))}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "container", "bom-ref": "image", "name": "stockade-agent", "version": stockade["version"]},
        },
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [each["bom-ref"] for each in components]}],
    }


if __name__ == "__main__":
    json.dump(listed([Path(each) for each in sys.argv[1:]]), sys.stdout, indent=1)
    print()
