"""Policies made from something else.

learn, generalise, masked (from a trail) · openshell (from a neighbour's format) · writing (as YAML) · unused (what a trail never needed).
"""
