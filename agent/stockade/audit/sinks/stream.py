"""Standard output: a line a record, for whoever runs Stockade in a container and collects what it prints."""

from __future__ import annotations

import os
from collections.abc import Sequence

from stockade.audit.sinks.sink import ARRIVED, Failed, Item, Outcome


class StreamSink:
    """Standard output, a record a line. descriptor: stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, batch: Sequence[Item]) -> Outcome:
        data = memoryview(b"".join(item.text + b"\n" for item in batch))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise Failed(f"standard output: {error.strerror}") from error
        return ARRIVED

    def close(self) -> None:
        pass
