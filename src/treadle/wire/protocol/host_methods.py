"""Rows of the method table that concern the machine, its settings and accounts, not a thread.

`methods` makes the one table of these and its own; nothing else reads them.
"""

from treadle.domain.device_keys import DeviceKey, Signature
from treadle.wire.protocol import (
    accounts,
    commands,
    device_keys,
    feedback,
    file_search,
    files,
    host_facts,
    mcp,
    settings,
    skills,
    threads,
)
from treadle.wire.protocol.method_spec import Lane, MethodSpec

_CONFIG_READ = Lane("config", access="shared")
_CONFIG = Lane("config")
_ACCOUNT = Lane("account")
_DEVICE_KEYS = Lane("device-keys")
_EXEC = Lane("exec", "process_id", per_connection=True)
_PROCESS = Lane("process", "process_handle", per_connection=True)
_FILE_SEARCH = Lane("file-search", "session_id")
_WATCH = Lane("fswatch", "watch_id", per_connection=True)

HOST_METHODS = (
    MethodSpec(
        name="config/read",
        params=settings.ConfigReadParams,
        result=settings.ConfigReadResult,
        lane=_CONFIG_READ,
    ),
    MethodSpec(
        name="config/value/write",
        params=settings.ConfigValueWriteParams,
        result=dict,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="config/batchWrite",
        params=settings.ConfigBatchWriteParams,
        result=dict,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="configRequirements/read", result=settings.ConfigRequirementsResult, lane=_CONFIG
    ),
    MethodSpec(
        name="config/mcpServer/reload", params=None, result=threads.Empty, optional_params=True
    ),
    MethodSpec(
        name="mcpServerStatus/list",
        params=mcp.ServerStatusParams,
        result=mcp.ServerStatusResult,
    ),
    # No lane: a tool may run for minutes, and what it answers depends on no other request.
    MethodSpec(name="mcpServer/tool/call", params=mcp.ToolCallParams, result=mcp.ToolCallResult),
    MethodSpec(
        name="mcpServer/oauth/login", params=mcp.OauthLoginParams, result=mcp.OauthLoginResult
    ),
    MethodSpec(
        name="mcpServer/resource/read",
        params=mcp.ResourceReadParams,
        result=mcp.ResourceReadResult,
    ),
    MethodSpec(
        name="skills/list",
        params=skills.SkillsListParams,
        result=skills.SkillsListResult,
        lane=_CONFIG_READ,
        optional_params=True,
    ),
    MethodSpec(
        name="skills/config/write",
        params=skills.SkillSwitchParams,
        result=skills.SkillSwitched,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="skills/extraRoots/set",
        params=skills.ExtraRootsParams,
        result=threads.Empty,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="hooks/list",
        params=settings.HooksListParams,
        result=settings.HooksListResult,
        lane=_CONFIG_READ,
        optional_params=True,
    ),
    MethodSpec(
        name="experimentalFeature/list",
        params=settings.FeatureListParams,
        result=settings.FeatureListResult,
        lane=_CONFIG_READ,
        optional_params=True,
    ),
    MethodSpec(
        name="experimentalFeature/enablement/set",
        params=settings.FeatureEnablement,
        result=settings.FeatureEnablement,
        lane=_CONFIG,
    ),
    MethodSpec(name="model/list", params=settings.ModelListParams, result=settings.ModelListResult),
    # No lane: both are about files of their own.
    MethodSpec(
        name="feedback/save", params=feedback.FeedbackSaveParams, result=feedback.FeedbackSaved
    ),
    MethodSpec(
        name="feedback/upload", params=feedback.FeedbackParams, result=feedback.FeedbackSent
    ),
    MethodSpec(name="fs/readFile", params=files.PathParams, result=files.FileContent),
    MethodSpec(name="fs/writeFile", params=files.WriteFileParams, result=threads.Empty),
    MethodSpec(name="fs/createDirectory", params=files.CreateDirectoryParams, result=threads.Empty),
    MethodSpec(name="fs/getMetadata", params=files.PathParams, result=files.Metadata),
    MethodSpec(name="fs/readDirectory", params=files.PathParams, result=files.Directory),
    MethodSpec(name="fs/remove", params=files.RemoveParams, result=threads.Empty),
    MethodSpec(name="fs/copy", params=files.CopyParams, result=threads.Empty),
    MethodSpec(name="fs/watch", params=files.WatchParams, result=files.WatchResult, lane=_WATCH),
    MethodSpec(name="fs/unwatch", params=files.UnwatchParams, result=threads.Empty, lane=_WATCH),
    # No lane: a search with a token that is in use replaces the one that runs.
    MethodSpec(
        name="fuzzyFileSearch",
        params=file_search.FileSearchParams,
        result=file_search.FileSearchResult,
    ),
    MethodSpec(
        name="fuzzyFileSearch/sessionStart",
        params=file_search.SearchSessionStartParams,
        result=threads.Empty,
        lane=_FILE_SEARCH,
        experimental=True,
    ),
    MethodSpec(
        name="fuzzyFileSearch/sessionUpdate",
        params=file_search.SearchSessionUpdateParams,
        result=threads.Empty,
        lane=_FILE_SEARCH,
        experimental=True,
    ),
    MethodSpec(
        name="fuzzyFileSearch/sessionStop",
        params=file_search.SearchSession,
        result=threads.Empty,
        lane=_FILE_SEARCH,
        experimental=True,
    ),
    # No lane: its follow-ups come while it runs, and what kills it may not wait behind a write.
    MethodSpec(
        name="command/exec",
        params=commands.CommandExecParams,
        result=commands.CommandExecResult,
        experimental_fields=(("permission_profile", "permissionProfile"),),
    ),
    MethodSpec(
        name="command/exec/terminate", params=commands.CommandIdParams, result=threads.Empty
    ),
    MethodSpec(
        name="command/exec/write",
        params=commands.CommandWriteParams,
        result=threads.Empty,
        lane=_EXEC,
    ),
    MethodSpec(
        name="command/exec/resize",
        params=commands.CommandResizeParams,
        result=threads.Empty,
        lane=_EXEC,
    ),
    MethodSpec(
        name="process/spawn",
        params=commands.ProcessSpawnParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="process/writeStdin",
        params=commands.ProcessWriteParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="process/kill",
        params=commands.ProcessIdParams,
        result=threads.Empty,
        experimental=True,
    ),
    MethodSpec(
        name="process/resizePty",
        params=commands.ProcessResizeParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="device/key/create",
        params=device_keys.DeviceKeyCreateParams,
        result=DeviceKey,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="device/key/public",
        params=device_keys.DeviceKeyPublicParams,
        result=DeviceKey,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="device/key/sign",
        params=device_keys.DeviceKeySignParams,
        result=Signature,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="modelProvider/list", result=host_facts.ModelProviderList, optional_params=True
    ),
    MethodSpec(
        name="modelProvider/capabilities/read",
        result=host_facts.ProviderCapabilities,
        optional_params=True,
    ),
    MethodSpec(
        name="permissionProfile/list",
        params=host_facts.PermissionProfileListParams,
        result=host_facts.PermissionProfileList,
        optional_params=True,
    ),
    MethodSpec(
        name="server/diagnostics",
        result=host_facts.Diagnostics,
        experimental=True,
        optional_params=True,
    ),
    MethodSpec(name="gitDiffToRemote", params=host_facts.GitDiffParams, result=host_facts.GitDiff),
    MethodSpec(
        name="mock/experimentalMethod",
        params=host_facts.EchoParams,
        result=host_facts.Echo,
        experimental=True,
    ),
    MethodSpec(
        name="account/read",
        params=accounts.AccountReadParams,
        result=accounts.AccountReadResult,
        lane=_ACCOUNT,
        optional_params=True,
    ),
    MethodSpec(
        name="account/login/start",
        params=accounts.LoginStartParams,
        result=accounts.LoginStarted,
        lane=_ACCOUNT,
    ),
    MethodSpec(
        name="account/login/cancel",
        params=accounts.LoginCancelParams,
        result=accounts.LoginCancelled,
        lane=_ACCOUNT,
    ),
    MethodSpec(name="account/logout", result=threads.Empty, lane=_ACCOUNT, optional_params=True),
    MethodSpec(
        name="getAuthStatus",
        params=accounts.AuthStatusParams,
        result=accounts.AuthStatus,
        lane=_ACCOUNT,
        optional_params=True,
    ),
)
"""Every offered method of the machine, in the order of the reference page."""
