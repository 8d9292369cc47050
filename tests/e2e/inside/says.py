"""Sends the requests of a JSON file, one after the other, and prints a JSON line for the answer to each.

Each: {"url", "method", "headers", "body" (text) or "packed" (base64), "pieces": send it chunked}.
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

for each in json.loads(Path(sys.argv[1]).read_text()):
    body = base64.b64decode(each["packed"]) if "packed" in each else each["body"].encode() if "body" in each else None
    data = iter([body[:7], body[7:]]) if each.get("pieces") else body
    request = urllib.request.Request(each["url"], data=data, headers=each.get("headers", {}), method=each.get("method"))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            print(
                json.dumps({"status": answer.status, "headers": dict(answer.headers), "body": answer.read().decode("utf-8", "replace")}),
                flush=True,
            )
    except urllib.error.HTTPError as error:
        print(
            json.dumps({"status": error.code, "headers": dict(error.headers), "body": error.read().decode("utf-8", "replace")}), flush=True
        )
    except OSError as error:
        print(json.dumps({"status": None, "body": repr(error)}), flush=True)
