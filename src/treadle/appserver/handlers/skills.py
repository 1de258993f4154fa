"""`skills/*`: from parameters to the skills and back."""

import asyncio
import os

from treadle.appserver.context import Context
from treadle.appserver.handlers.files import absolute
from treadle.wire.protocol import skills as proto
from treadle.wire.protocol.errors import invalid_params, invalid_request
from treadle.wire.protocol.threads import Empty


async def list_skills(context: Context, params: proto.SkillsListParams) -> proto.SkillsListResult:
    """The skills of each folder; files are looked at every time, so nothing needs a reload."""
    skills = context.services.skills()
    extra: dict[str, list[str]] = {}
    for entry in params.per_cwd_extra_user_roots or []:
        for root in entry.extra_user_roots:
            if not os.path.isabs(root):
                text = f"skills/list perCwdExtraUserRoots extraUserRoots must be absolute: {root}"
                raise invalid_request(text)
        extra.setdefault(entry.cwd, []).extend(entry.extra_user_roots)
    data = [
        await asyncio.to_thread(skills.listing, cwd, extra.get(cwd, []) if cwd else [])
        for cwd in (params.cwds or [None])
    ]
    return proto.SkillsListResult(data=data)


async def switch(context: Context, params: proto.SkillSwitchParams) -> proto.SkillSwitched:
    """Switch a skill on or off."""
    if (params.path is None) == (params.name is None):
        raise invalid_params("skills/config/write requires exactly one of path or name")
    now = context.services.skills().switch(
        path=None if params.path is None else absolute(params.path),
        name=params.name,
        enabled=params.enabled,
    )
    return proto.SkillSwitched(effective_enabled=now)


async def set_extra_roots(context: Context, params: proto.ExtraRootsParams) -> Empty:
    """Look into further folders; every client is told that lists have changed."""
    context.services.skills().set_extra_roots([absolute(root) for root in params.extra_roots])
    context.services.subscriptions.notify_all("skills/changed", proto.SkillsChanged())
    return Empty()
