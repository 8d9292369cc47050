"""Inference calls by their heads, and the reading of bodies that every API shares. No schema of an API is read yet."""

from stockade.privacy.extract.call import Api, Call, Piece, Role, Unknown, Unreadable
from stockade.privacy.extract.recognise import is_endpoint, is_local, leaves_nothing, recognise

__all__ = ["Api", "Call", "Piece", "Role", "Unknown", "Unreadable", "is_endpoint", "is_local", "leaves_nothing", "recognise"]
