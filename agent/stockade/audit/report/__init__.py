"""The report: what one sandbox did in a period, on one page that an auditor can read and nobody has to trust blindly.

gather (one pass over the records, in bounded memory) · coverage (OWASP's list, row by row) · frameworks (SOC 2, HIPAA, EU AI Act) ·
chart (the timeline) · html (escaping) · page (the page itself)
"""

from stockade.audit.report.frameworks import FRAMEWORKS
from stockade.audit.report.gather import Case, gather
from stockade.audit.report.page import page

__all__ = ["FRAMEWORKS", "Case", "gather", "page"]
