"""The audit trail: one hash-chained record per decision, outside every sandbox.

Reading order: record (a decision's fields) · mask (what must not be written) · chain (how lines vouch for each other) · file · journal ·
keys · trail (the writer) · verify · human (the line on a terminal) · read (tail and filters).
"""

from stockade.audit.file import AuditError
from stockade.audit.human import human_line
from stockade.audit.mask import mask_path
from stockade.audit.trail import Trail
from stockade.audit.verify import Verification, verify

__all__ = ["AuditError", "Trail", "Verification", "human_line", "mask_path", "verify"]
