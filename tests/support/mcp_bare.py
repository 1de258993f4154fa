"""An MCP server without any package: it starts at once, for tests of how servers live and end."""

import json
import os
import sys
import threading

TOOLS = ("pid", "crash", "sleep")


def answer(request_id, result):
    message = {"jsonrpc": "2.0", "id": request_id, "result": result}
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def call(request_id, params):
    if params["name"] == "crash":
        os._exit(3)
    if params["name"] == "sleep":
        threading.Event().wait(params["arguments"]["seconds"])
    answer(request_id, {"content": [{"type": "text", "text": str(os.getpid())}]})


def take(message):
    method, request_id = message.get("method"), message.get("id")
    if method == "initialize":
        info = {"name": "bare", "version": "1"}
        offered = {"tools": {}}
        version = message["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": offered, "serverInfo": info}
        answer(request_id, result)
    elif method == "tools/list":
        hint = {"readOnlyHint": True}
        schema = {"type": "object"}
        rows = [{"name": name, "inputSchema": schema, "annotations": hint} for name in TOOLS]
        answer(request_id, {"tools": rows})
    elif method == "tools/call":
        thread = threading.Thread(target=call, args=(request_id, message["params"]), daemon=True)
        thread.start()


print("talkative on standard error", file=sys.stderr)
sys.stderr.write("x" * 300_000)
sys.stderr.flush()
for line in sys.stdin:
    take(json.loads(line))
