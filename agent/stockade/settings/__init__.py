"""The settings file: how this machine's agents keep and pass on their evidence. What a sandbox may do is said by its policy, never here.

spec (which keys there are) · codes (what can be wrong with them) · part (values and their places) · audit, rotate, sinks, metrics, ca,
kubernetes (what the sections mean) · read (the file: who may have written it, and everything wrong with it at once) · reference
(docs/settings.md).
"""

from stockade.settings.audit import Audit, Checkpoint
from stockade.settings.metrics import Metrics
from stockade.settings.read import DEFAULT, Configured, SettingsError, configured, read
from stockade.settings.rotate import Rotate
from stockade.settings.sinks import Sink

__all__ = ["DEFAULT", "Audit", "Checkpoint", "Configured", "Metrics", "Rotate", "SettingsError", "Sink", "configured", "read"]
