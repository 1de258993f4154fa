"""How the built-in tools are described to the model."""

from typing import Any


def _function(
    name: str, description: str, properties: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": description,
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        },
    }


def _property(kind: str, description: str) -> dict[str, str]:
    return {"type": kind, "description": description}


_YIELD = _property("number", "Milliseconds to wait for output before answering.")
_BUDGET = _property("number", "Most output tokens to get back; what is longer loses its middle.")

EXEC_COMMAND = _function(
    "exec_command",
    "Runs a shell command. Answers with its output, or with a session ID when it is still running "
    "after the wait.",
    {
        "cmd": _property("string", "Shell command to run."),
        "workdir": _property("string", "Folder to run it in; the turn's folder by default."),
        "shell": _property("string", "Shell to use; the user's by default."),
        "login": _property("boolean", "Run the shell as a login shell (default true)."),
        "tty": _property(
            "boolean", "Give the command a terminal, so that it can be typed into (default false)."
        ),
        "yield_time_ms": _YIELD,
        "max_output_tokens": _BUDGET,
        "sandbox_permissions": {
            "type": "string",
            "enum": ["use_default", "require_escalated"],
            "description": "Ask with `require_escalated` to run outside the sandbox.",
        },
        "justification": _property(
            "string", "With `require_escalated`: one sentence for the user, why it is needed."
        ),
        "prefix_rule": {
            "type": "array",
            "items": {"type": "string"},
            "description": "With `require_escalated`: a command prefix to allow from now on.",
        },
    },
    ["cmd"],
)

WRITE_STDIN = _function(
    "write_stdin",
    "Types characters into a running session of exec_command, or polls it with none, and answers "
    "with its recent output.",
    {
        "session_id": _property("number", "ID of the running session."),
        "chars": _property("string", "Characters to type; empty to only listen."),
        "yield_time_ms": _YIELD,
        "max_output_tokens": _BUDGET,
    },
    ["session_id"],
)

SHELL = _function(
    "shell",
    "Runs a program with arguments and answers with its output.",
    {
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Program and arguments.",
        },
        "workdir": _property("string", "Folder to run it in."),
        "timeout_ms": _property("number", "Milliseconds after which it is ended."),
    },
    ["command"],
)

SHELL_COMMAND = _function(
    "shell_command",
    "Runs a shell script and answers with its output.",
    {
        "command": _property("string", "Script to run in the user's shell."),
        "workdir": _property("string", "Folder to run it in."),
        "login": _property("boolean", "Run the shell as a login shell (default true)."),
        "timeout_ms": _property("number", "Milliseconds after which it is ended."),
    },
    ["command"],
)

UPDATE_PLAN = _function(
    "update_plan",
    "Tells the user the plan of work: short steps with a status each, at most one in progress.",
    {
        "explanation": _property("string", "Why the plan changed."),
        "plan": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "step": _property("string", "What is to be done."),
                    "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                },
                "required": ["step", "status"],
                "additionalProperties": False,
            },
        },
    },
    ["plan"],
)

VIEW_IMAGE = _function(
    "view_image",
    "Shows an image file of this machine to you.",
    {"path": _property("string", "Path of the image.")},
    ["path"],
)

REQUEST_USER_INPUT = _function(
    "request_user_input",
    "Asks the user one to three short questions and waits for the answers.",
    {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": _property("string", "Name of the answer, in snake_case."),
                    "header": _property("string", "Title of a word or two."),
                    "question": _property("string", "The question, one sentence."),
                    "options": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "label": _property("string", "What the user picks."),
                                "description": _property("string", "What picking it means."),
                            },
                            "required": ["label", "description"],
                            "additionalProperties": False,
                        },
                    },
                },
                "required": ["id", "header", "question"],
                "additionalProperties": False,
            },
        },
    },
    ["questions"],
)

_PATHS = {"type": "array", "items": {"type": "string"}}

REQUEST_PERMISSIONS = _function(
    "request_permissions",
    "Asks the user for permissions beyond the sandbox, for the commands that follow.",
    {
        "reason": _property("string", "Why they are needed, one sentence."),
        "permissions": {
            "type": "object",
            "properties": {
                "network": {
                    "type": "object",
                    "properties": {"enabled": {"type": "boolean"}},
                    "additionalProperties": False,
                },
                "file_system": {
                    "type": "object",
                    "properties": {"read": _PATHS, "write": _PATHS},
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
    },
    ["permissions"],
)
