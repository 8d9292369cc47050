"""Policy tests.

suite (the format) · testing (verdicts) · nearest (the rule that came closest to a miss) · coverage (what no case reached).
"""
