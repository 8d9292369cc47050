"""An agent's calls through the official clients, as they come: python3 sdk.py LIBRARIES CASE…

LIBRARIES: a directory for sys.path. A JSON line for each case: what came of it, or the error that the client raised. A whole answer is
checked against the client's own types, which the client itself does not do.
"""

import json
import math
import os
import sys
import warnings

sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")
PATIENT = "Rosalind Achterberg"
QUESTION = f"How is {PATIENT}?"
PARAMETERS = {
    "type": "object",
    "properties": {"mrn": {"type": "string", "enum": ["A-12", "B-13"]}},
    "required": ["mrn"],
    "additionalProperties": False,
}
FUNCTION = {"name": "look", "description": "Look somebody up.", "parameters": PARAMETERS}
FUNCTION_OF_GEMINI = {
    "name": "look",
    "description": "Look somebody up.",
    "parameters": {"type": "OBJECT", "properties": {"mrn": {"type": "STRING", "enum": ["A-12", "B-13"]}}, "required": ["mrn"]},
}
HISTORY = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
MODEL = os.environ.get("MODEL", "gpt-plain")
CLOUD = {"api_key": "sk-cloud-4711-0815", "max_retries": 0, "timeout": 60}


def right(answer):
    """Raises pydantic's ValidationError."""
    type(answer).model_validate_json(answer.model_dump_json(exclude_unset=True))
    return answer


class OpenAi:
    def __init__(self):
        import openai

        self.client = openai.OpenAI(**CLOUD)
        self.tools = [{"type": "function", "function": FUNCTION}]

    def chat(self):
        answer = right(
            self.client.chat.completions.create(model=MODEL, messages=HISTORY, max_completion_tokens=40, user="account-of-the-client")
        )
        return {"text": answer.choices[0].message.content, "model": answer.model, "stop": answer.choices[0].finish_reason}

    def stream(self):
        text, stop, usage = "", None, None
        options = {"include_usage": True}
        for chunk in self.client.chat.completions.create(model=MODEL, messages=HISTORY, max_tokens=40, stream=True, stream_options=options):
            right(chunk)
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text, stop = text + (choice.delta.content or ""), choice.finish_reason or stop
        return {"text": text, "stop": stop, "usage": usage.total_tokens > 0}

    def tool(self):
        answer = right(self.client.chat.completions.create(model=MODEL, messages=HISTORY, tools=self.tools, max_tokens=400))
        (call,) = answer.choices[0].message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": f"{PATIENT} is well"}
        history = [*HISTORY, answer.choices[0].message, result]
        after = right(self.client.chat.completions.create(model=MODEL, messages=history, tools=self.tools, max_tokens=40))
        called = {"name": call.function.name, "arguments": json.loads(call.function.arguments), "stop": answer.choices[0].finish_reason}
        return {"called": called, "text": after.choices[0].message.content}

    def tool_stream(self):
        with self.client.chat.completions.stream(model=MODEL, messages=HISTORY, tools=self.tools, max_tokens=400) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion()
        (call,) = answer.choices[0].message.tool_calls
        called = {"name": call.function.name, "arguments": json.loads(call.function.arguments), "stop": answer.choices[0].finish_reason}
        return {"called": called, "id": bool(call.id)}

    def responses(self):
        answer = right(self.client.responses.create(model=MODEL, instructions="Be brief.", input=QUESTION, max_output_tokens=40))
        return {"text": answer.output_text, "model": answer.model}

    def responses_stream(self):
        text, kinds = "", []
        with self.client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=40) as stream:
            for event in stream:
                kinds.append(event.type)
                text += event.delta if event.type == "response.output_text.delta" else ""
        answer = right(event.response)
        assert text == answer.output_text and kinds[0] == "response.created", kinds
        return {"text": text, "last": kinds[-1] in ("response.completed", "response.incomplete")}

    def responses_tool(self):
        tools = [{"type": "function", "strict": True, **FUNCTION}]
        with self.client.responses.stream(model=MODEL, input=QUESTION, tools=tools, max_output_tokens=400) as stream:
            for _ in stream:
                pass
            answer = right(stream.get_final_response())
        (call,) = answer.output
        result = {"type": "function_call_output", "call_id": call.call_id, "output": f"{PATIENT} is well"}
        history = [{"role": "user", "content": QUESTION}, call.model_dump(exclude_none=True, exclude={"parsed_arguments"}), result]
        after = right(self.client.responses.create(model=MODEL, input=history, tools=tools, max_output_tokens=40))
        return {"called": {"name": call.name, "arguments": json.loads(call.arguments)}, "text": after.output_text}

    def completion(self):
        answer = right(self.client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=40))
        # whose type has no word for a chunk that is not the last
        stream = self.client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=40, stream=True)
        text = "".join(choice.text for chunk in stream for choice in chunk.choices)
        return {"text": answer.choices[0].text, "same": text == answer.choices[0].text}

    def embed(self):
        answer = right(self.client.embeddings.create(model=MODEL, input=[QUESTION, "and?"]))  # in base64, though it does not say so
        numbers = right(self.client.embeddings.create(model=MODEL, input=QUESTION, encoding_format="float"))
        return {"sizes": [len(each.embedding) for each in answer.data], "same": close(answer.data[0].embedding, numbers.data[0].embedding)}


class Anthropic:
    def __init__(self):
        import anthropic

        self.client = anthropic.Anthropic(**CLOUD)
        self.tools = [{"name": "look", "description": "Look somebody up.", "input_schema": PARAMETERS}]
        self.asked = {"model": MODEL, "system": "Be brief.", "max_tokens": 400, "metadata": {"user_id": "account-of-the-client"}}

    def chat(self):
        answer = right(self.client.messages.create(**self.asked | {"max_tokens": 40}, messages=HISTORY[1:]))
        return {"text": answer.content[0].text, "model": answer.model, "stop": answer.stop_reason}

    def stream(self):
        with self.client.messages.stream(**self.asked | {"max_tokens": 40}, messages=HISTORY[1:]) as stream:
            text = "".join(stream.text_stream)
            answer = right(stream.get_final_message())
        assert text == answer.content[0].text
        return {"text": text, "stop": answer.stop_reason, "usage": answer.usage.output_tokens > 0}

    def tool(self):
        choice = {"type": "auto", "disable_parallel_tool_use": True}
        answer = right(self.client.messages.create(**self.asked, messages=HISTORY[1:], tools=self.tools, tool_choice=choice))
        return self.went_on(answer)

    def tool_stream(self):
        with self.client.messages.stream(**self.asked, messages=HISTORY[1:], tools=self.tools) as stream:
            for _ in stream:
                pass
            answer = right(stream.get_final_message())
        return self.went_on(answer)

    def went_on(self, answer):
        call = answer.content[-1]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": f"{PATIENT} is well"}]}
        history = [*HISTORY[1:], {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        after = right(self.client.messages.create(**self.asked | {"max_tokens": 40}, messages=history, tools=self.tools))
        return {"called": {"name": call.name, "arguments": call.input, "stop": answer.stop_reason}, "text": after.content[0].text}


class Ollama:
    def __init__(self):
        import ollama

        self.client = ollama.Client(host=os.environ["OLLAMA_CLOUD"], headers={"Authorization": "Bearer sk-cloud-4711-0815"}, timeout=60)
        self.tools = [{"type": "function", "function": FUNCTION}]
        self.few = {"num_predict": 40}

    def chat(self):
        answer = right(self.client.chat(model=MODEL, messages=HISTORY, options=self.few))
        return {"text": answer.message.content, "model": answer.model, "stop": answer.done_reason}

    def stream(self):
        text, last = "", None
        for part in self.client.chat(model=MODEL, messages=HISTORY, options=self.few, stream=True):
            text, last = text + (right(part).message.content or ""), part
        return {"text": text, "stop": last.done_reason, "usage": last.eval_count > 0}

    def tool(self):
        return self.went_on(right(self.client.chat(model=MODEL, messages=HISTORY, tools=self.tools)).message)

    def tool_stream(self):
        parts = [right(part) for part in self.client.chat(model=MODEL, messages=HISTORY, tools=self.tools, stream=True)]
        (message,) = [part.message for part in parts if part.message.tool_calls]
        return self.went_on(message)

    def went_on(self, message):
        (call,) = message.tool_calls
        result = {"role": "tool", "tool_name": call.function.name, "content": f"{PATIENT} is well"}
        after = right(self.client.chat(model=MODEL, messages=[*HISTORY, message, result], tools=self.tools, options=self.few))
        return {"called": {"name": call.function.name, "arguments": dict(call.function.arguments)}, "text": after.message.content}

    def generate(self):
        answer = right(self.client.generate(model=MODEL, prompt=QUESTION, system="Be brief.", options=self.few))
        stream = self.client.generate(model=MODEL, prompt=QUESTION, system="Be brief.", options=self.few, stream=True)
        return {"text": answer.response, "same": "".join(right(part).response for part in stream) == answer.response}

    def embed(self):
        answer = right(self.client.embed(model=MODEL, input=[QUESTION, "and?"]))
        one = right(self.client.embeddings(model=MODEL, prompt=QUESTION))
        return {"sizes": [len(each) for each in answer.embeddings], "same": close(answer.embeddings[0], one.embedding)}


class Gemini:
    def __init__(self):
        from google import genai

        self.types = genai.types
        self.client = genai.Client(api_key="cloud-4711-0815", http_options={"base_url": os.environ["OLLAMA_CLOUD"], "timeout": 60_000})
        self.few = {"max_output_tokens": 40, "system_instruction": "Be brief."}
        self.tools = {"tools": [{"function_declarations": [FUNCTION_OF_GEMINI]}], "automatic_function_calling": {"disable": True}}

    def chat(self):
        answer = right(self.client.models.generate_content(model=MODEL, contents=QUESTION, config=self.few))
        return {"text": answer.text, "model": answer.model_version, "stop": answer.candidates[0].finish_reason.value}

    def stream(self):
        parts = [right(part) for part in self.client.models.generate_content_stream(model=MODEL, contents=QUESTION, config=self.few)]
        last, text = parts[-1], "".join(part.text or "" for part in parts)
        return {"text": text, "stop": last.candidates[0].finish_reason.value, "usage": last.usage_metadata.total_token_count > 0}

    def tool(self):
        return self.went_on(right(self.client.models.generate_content(model=MODEL, contents=QUESTION, config=self.tools)))

    def tool_stream(self):
        *_, last = self.client.models.generate_content_stream(model=MODEL, contents=QUESTION, config=self.tools)
        return self.went_on(right(last))

    def went_on(self, answer):
        (call,) = answer.function_calls
        result = self.types.Part.from_function_response(name=call.name, response={"said": f"{PATIENT} is well"})
        history = [self.types.UserContent(QUESTION), answer.candidates[0].content, self.types.UserContent(result)]
        after = right(self.client.models.generate_content(model=MODEL, contents=history, config=self.tools | self.few))
        return {"called": {"name": call.name, "arguments": call.args}, "text": after.text}


def close(these, those):
    """Cosine: what stands in one batch with another text may come out a little different."""
    dot = sum(this * that for this, that in zip(these, those, strict=True))
    return dot > 0.99 * math.hypot(*these) * math.hypot(*those)


KINDS = {"openai": OpenAi, "anthropic": Anthropic, "ollama": Ollama, "gemini": Gemini}
clients = {}
for case in sys.argv[2:]:
    name, _, method = case.partition(".")
    try:
        client = clients.get(name) or clients.setdefault(name, KINDS[name]())
        made = getattr(client, method)()
    except Exception as error:
        made = {"error": type(error).__name__, "base": [kind.__name__ for kind in type(error).__mro__], "said": str(error)}
    print(json.dumps({"case": case, **made}), flush=True)
print(json.dumps({"case": "environment", "names": sorted(os.environ)}))
