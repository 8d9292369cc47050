"""What holds for every request there can be.

spelling, language (paths as automata) · space (one of every kind of request) · prove · reach, diff (what becomes possible) · conflicts
(rules that allow nothing, or nothing of their own).
"""
