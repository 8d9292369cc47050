"""The local model in the place of a cloud one: what a client asks and hears in its own API is said and understood in the local server's.

Sans-I/O: who dials is the proxy's worker.
"""

from stockade.privacy.local.form import LocalFailure, Untranslatable
from stockade.privacy.local.translator import Outgoing, Translator

__all__ = ["LocalFailure", "Outgoing", "Translator", "Untranslatable"]
