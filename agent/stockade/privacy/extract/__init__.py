"""Inference calls: which request is one, the texts of its body by the schema of its API, and other texts in their places."""

from stockade.privacy.extract.body import extract, rewrite
from stockade.privacy.extract.call import Api, Call, Piece, Role, Unknown, Unreadable
from stockade.privacy.extract.recognise import is_endpoint, is_local, leaves_nothing, ordinary, recognise

__all__ = [
    "Api",
    "Call",
    "Piece",
    "Role",
    "Unknown",
    "Unreadable",
    "extract",
    "is_endpoint",
    "is_local",
    "leaves_nothing",
    "ordinary",
    "recognise",
    "rewrite",
]
