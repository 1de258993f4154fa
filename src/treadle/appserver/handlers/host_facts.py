"""What clients ask of the machine and its set-up at start; nothing here changes anything."""

import os

from treadle.appserver.context import Context
from treadle.appserver.handlers.paging import page
from treadle.engine.services.git_diff import diff_to_remote
from treadle.wire.protocol import host_facts as proto


async def list_providers(context: Context, params: None) -> proto.ModelProviderList:
    """The providers that threads may use."""
    del params
    config = context.services.config
    return proto.ModelProviderList(
        data=config.providers(),
        default_provider_id=config.default_provider(),
        can_change_default=True,
    )


async def read_capabilities(context: Context, params: None) -> proto.ProviderCapabilities:
    """What the provider's models may be asked for."""
    del context, params
    return proto.ProviderCapabilities()


async def list_permission_profiles(
    context: Context, params: proto.PermissionProfileListParams
) -> proto.PermissionProfileList:
    """The profiles, and which of them an administrator allows."""
    profiles = context.services.config.permission_profiles()
    data, following = page(profiles, params.cursor, params.limit)
    return proto.PermissionProfileList(data=data, next_cursor=following)


async def diagnose(context: Context, params: None) -> proto.Diagnostics:
    """The process in a few numbers."""
    del params
    threads = context.services.threads
    gauges = {
        "app.threads.loaded": len(threads.loaded),
        "app.threads.resting": len(threads.loaded.resting),
        "app.turns.running": threads.running_count,
    }
    return proto.Diagnostics(
        process=proto.ProcessFacts(id=os.getpid(), resident_memory_bytes=_resident_bytes()),
        gauges=[proto.Gauge(name=name, value=value) for name, value in gauges.items()],
    )


async def diff_git(context: Context, params: proto.GitDiffParams) -> proto.GitDiff:
    """What a folder has that its remotes have not."""
    host = context.services.command_host()
    commit, patch = await diff_to_remote(host.folder(params.cwd), host.environment(filtered=False))
    return proto.GitDiff(sha=commit, diff=patch)


async def echo(context: Context, params: proto.EchoParams) -> proto.Echo:
    """The value back."""
    del context
    return proto.Echo(echoed=params.value)


def _resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
