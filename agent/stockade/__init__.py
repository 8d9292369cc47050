"""Stockade holds an AI agent's processes to a policy on binary, destination, method and path."""

__version__ = "0.1.0"
