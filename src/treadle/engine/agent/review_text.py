"""The words of a review: what the reviewer is asked, and how its answer reads. Pure."""

from typing import Any, cast

import msgspec

GUIDELINES = """\
You review changes that somebody else made to a project. Look at the change itself and at as much of
the code around it as you need; run read-only commands, change nothing.

Report a finding only when all of this holds: it was brought in by this change; it can go wrong in a
way that you can name; its author would want to mend it. Style, taste and what was there before are
no findings. Prefer few that are certain over many that are possible; none is a good answer.

Answer with one JSON object and nothing else:
{"findings": [{"title": "<at most 80 characters>", "body": "<what goes wrong, when, and why>",
  "confidence_score": <0 to 1>, "priority": <0 for drop everything to 3 for some day>,
  "code_location": {"absolute_file_path": "<path>", "line_range": {"start": <n>, "end": <n>}}}],
 "overall_correctness": "patch is correct" or "patch is incorrect",
 "overall_explanation": "<one to three sentences>", "overall_confidence_score": <0 to 1>}
Keep line ranges short and inside the change.
"""

NO_OUTPUT = "Reviewer failed to output a response."
INTERRUPTED = "Review was interrupted. Please re-run /review and wait for it to complete."
_DONE = "A reviewer looked at the changes and reported this:"
_NOT_DONE = "The user asked for a review, which was interrupted or failed. There are no results."


def readable(answer: str) -> str:
    """A reviewer's answer for people: its explanation and findings; plain words as they are."""
    found = _object_in(answer)
    if found is None:
        return answer.strip() or NO_OUTPUT
    parts: list[str] = []
    explanation = str(found.get("overall_explanation") or "").strip()
    if explanation:
        parts.append(explanation)
    findings = [_finding(entry) for entry in _dicts(found.get("findings"))]
    if findings:
        heading = "Review comment:" if len(findings) == 1 else "Full review comments:"
        parts.append("\n\n".join([heading, *findings]))
    return "\n\n".join(parts) or NO_OUTPUT


def _object_in(answer: str) -> dict[str, Any] | None:
    """The JSON object of an answer, also with words or a fence around it."""
    begin, end = answer.find("{"), answer.rfind("}")
    if begin < 0 or end < begin:
        return None
    try:
        decoded = msgspec.json.decode(answer[begin : end + 1])
    except msgspec.DecodeError:
        return None
    if not isinstance(decoded, dict):
        return None
    found = cast("dict[str, Any]", decoded)
    return found if "findings" in found or "overall_explanation" in found else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    entries = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]


def _finding(finding: dict[str, Any]) -> str:
    lines = [f"- {finding.get('title') or 'Untitled'}{_place(finding.get('code_location'))}"]
    body = str(finding.get("body") or "").strip()
    lines += [f"  {line}".rstrip() for line in body.splitlines()]
    return "\n".join(lines)


def _place(location: Any) -> str:
    if not isinstance(location, dict):
        return ""
    known = cast("dict[str, Any]", location)
    path = known.get("absolute_file_path")
    if not path:
        return ""
    lines: dict[str, Any] = known.get("line_range") or {}
    span = f":{lines['start']}-{lines['end']}" if "start" in lines and "end" in lines else ""
    return f" — {path}{span}"


def history_note(results: str | None) -> str:
    """How the thread's own model hears of a review; None for one without results."""
    context = _NOT_DONE if results is None else _DONE
    return (
        f"<user_action>\n  <context>{context}</context>\n  <action>review</action>\n"
        f"  <results>\n  {results or 'None.'}\n  </results>\n</user_action>"
    )
