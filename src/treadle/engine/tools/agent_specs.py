"""How the agent tools are described to the model (names and shapes of 0.129.0 and 0.169.0)."""

from typing import Any

_PART = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "text, image, local_image, skill or mention."},
        "text": {"type": "string", "description": "The text, for type text."},
        "image_url": {"type": "string", "description": "A data URL, for type image."},
        "path": {"type": "string", "description": "Path of a local_image, skill or mention."},
        "name": {"type": "string", "description": "Name of a skill or mention."},
    },
    "additionalProperties": False,
}
_ITEMS = {
    "type": "array",
    "items": _PART,
    "description": "The message in parts; give either `message` or `items`.",
}


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


def _function(
    name: str, description: str, properties: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    return {
        "type": "function",
        "name": name,
        "description": description,
        "strict": False,
        "parameters": {**parameters, "additionalProperties": False},
    }


SPAWN_AGENT = _function(
    "spawn_agent",
    "Starts a sub-agent on a task of its own and answers with its id at once; it works beside you "
    "with your model, folder and permissions. Use it only when the user asked for sub-agents or "
    "for work in parallel. Give it one bounded task with all it needs to know, and say which files "
    "are its own. You are told when it has finished.",
    {
        "message": _text("The task, in plain text."),
        "items": _ITEMS,
        "fork_context": {
            "type": "boolean",
            "description": "Let it begin with this conversation instead of the task alone.",
        },
        "model": _text("Another model than yours; leave it out unless the user asked for one."),
        "reasoning_effort": _text("Another reasoning effort than yours."),
    },
    [],
)

SEND_INPUT = _function(
    "send_input",
    "Sends a message to a sub-agent: an idle one begins to work on it, a working one sees it when "
    "it next looks.",
    {
        "target": _text("Id of the agent, from spawn_agent."),
        "message": _text("The message, in plain text."),
        "items": _ITEMS,
        "interrupt": {
            "type": "boolean",
            "description": "Stop what it is doing and begin with this message at once.",
        },
    },
    ["target"],
)

RESUME_AGENT = _function(
    "resume_agent",
    "Opens a closed sub-agent again, so that it can be sent messages and waited for.",
    {"id": _text("Id of the agent.")},
    ["id"],
)

WAIT_AGENT = _function(
    "wait_agent",
    "Waits until one of the sub-agents has finished, and answers with the state and last message "
    "of those that have; with none when time runs out first. Wait only when you can do nothing "
    "else meanwhile.",
    {
        "targets": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Ids of the agents.",
        },
        "timeout_ms": {
            "type": "number",
            "description": "Milliseconds to wait at most: 10000 to 3600000, by default 30000.",
        },
    },
    ["targets"],
)

CLOSE_AGENT = _function(
    "close_agent",
    "Ends a sub-agent and all that it spawned, and answers with what it was doing. An open agent "
    "counts against the number that may exist, so close those you need no more.",
    {"target": _text("Id of the agent.")},
    ["target"],
)

ALL = (SPAWN_AGENT, SEND_INPUT, RESUME_AGENT, WAIT_AGENT, CLOSE_AGENT)
