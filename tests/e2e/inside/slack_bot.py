"""Runs inside: a bot on slack_sdk, over Socket Mode. Answers two questions, tries to invite a user, and prints what it met.

slack_bot.py SITE
"""

import json
import sys
import threading

sys.path.insert(0, sys.argv[1])

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

heard: list[str] = []
done = threading.Event()
web = WebClient(token="xoxb-tests")
bot = SocketModeClient(app_token="xapp-tests", web_client=web)


def answer(client: SocketModeClient, request: object) -> None:
    client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
    event = request.payload["event"]
    web.chat_postMessage(channel=event["channel"], text=f"answer to {event['text']}")
    heard.append(event["text"])
    if len(heard) == 2:
        done.set()


bot.socket_mode_request_listeners.append(answer)
bot.connect()
answered = done.wait(40)
refused = None
try:
    web.api_call("admin.users.invite", json={"email": "new@example.com"})
except SlackApiError as error:
    refused = {"status": error.response.status_code, **error.response.data}
bot.close()
print(json.dumps({"heard": heard, "answered": answered, "refused": refused}))
