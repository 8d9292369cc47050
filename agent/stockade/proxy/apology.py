"""A refusal in the words of the API that was asked, so that its client library raises its own error with our text in it."""

from __future__ import annotations

import json
from typing import Any


def apology(api: str | None, message: str, fields: dict[str, Any]) -> bytes:
    """The JSON body of a 403. api: a name of extract.Api, None for a call of no known schema. fields: what a machine may read beside it."""
    family = (api or "").partition("_")[0]
    more = {"stockade": fields}
    match family:
        case "anthropic":
            body = {"type": "error", "error": {"type": "permission_error", "message": message}, **more}
        case "gemini":
            body = {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}, **more}
        case "bedrock" | "cohere":
            body = {"message": message, **more}
        case "ollama":
            body = {"error": message, **more}
        case _:
            body = {"error": {"message": message, "type": "permission_error", "param": None, "code": "privacy"}, **more}
    return json.dumps(body).encode() + b"\n"
