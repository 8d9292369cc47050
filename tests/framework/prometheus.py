"""The real Prometheus, as apt has it: on loopback, with the product's own rules and discovery, and what it answers to PromQL."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from framework.machine import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy/prometheus"
SHORT = "2s"  # instead of every `for` and every window: a test cannot wait for minutes


def shortened(rules: str, window: str = "90s") -> str:
    """The product's rules with their times alone changed. Unit tests of promtool have the real ones."""
    rules = re.sub(r"\bfor: \w+", f"for: {SHORT}", rules)
    return re.sub(r"\[(?:5m|10m|15m|24h)\]", f"[{window}]", rules)


class Prometheus:
    """One server. targets: the directory where agents write where they serve."""

    def __init__(self, directory: Path, targets: Path, change: Mapping[str, Any] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        [job] = config["scrape_configs"]
        job["file_sd_configs"] = [{"files": [f"{targets}/*.json"], "refresh_interval": "500ms"}]
        job |= dict(change or {})
        for name in config["rule_files"]:
            (directory / name).write_text(shortened((DEPLOY / name).read_text()))
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._log = (directory / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query, as {labels…, "value": number}; a scalar is one without labels."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is not ready yet
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        except OSError:  # it is starting
            return []
        found = [({}, data["result"])] if data["resultType"] == "scalar" else [(each["metric"], each["value"]) for each in data["result"]]
        return [labels | {"value": float(value)} for labels, (_, value) in found]

    def number(self, expression: str) -> float | None:
        """The value of a query with one sample; None without one."""
        found = self.ask(expression)
        assert len(found) <= 1, found
        return found[0]["value"] if found else None

    def wait_for(self, expression: str, value: float | None = None, timeout: float = 60) -> float:
        """Until the query has one sample, or that value."""

        def there() -> tuple[float, ...]:
            found = self.number(expression)
            return () if found is None or (value is not None and found != value) else (found,)

        try:
            return wait_for(there, expression, timeout)[0]
        except AssertionError:
            raise AssertionError(f"{expression} is not {value} but {self.ask(expression)}") from None

    def firing(self, alert: str, **labels: str) -> bool:
        said = ",".join(f'{name}="{value}"' for name, value in {"alertname": alert, "alertstate": "firing", **labels}.items())
        return bool(self.ask(f"ALERTS{{{said}}}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
