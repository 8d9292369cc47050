"""How a policy is written, and what is wrong with one.

document (YAML with places) · problems, codes · shapes, spec (which keys there are) · schema (a document held to that) · rules, amounts,
calls (what values mean) · origins, show (where each line comes from) · lint, overlaps, absent (what deserves a look) · json_schema,
reference (what is generated from the specification).
"""
