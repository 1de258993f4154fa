"""THE table: every method that a client may call, one row each.

Dispatch, the typed client, the reference page and the completeness test are derived from it. A
method of either reference version (0.129.0, 0.169.0) that this server does not offer has a row too:
it answers that it is not supported. Lanes follow the references' measured scopes, but for
`turn/interrupt`, which has none: what must interrupt may not wait behind what it interrupts.
"""

from treadle.wire.protocol import initialize, settings, threads, turns
from treadle.wire.protocol.method_spec import Lane, MethodSpec

_THREAD = Lane("thread", "thread_id")
_CONFIG_READ = Lane("config", access="shared")
_CONFIG = Lane("config")
_ACCOUNT = Lane("account")

_OFFERED = (
    MethodSpec(
        name="initialize", params=initialize.InitializeParams, result=initialize.InitializeResult
    ),
    MethodSpec(
        name="thread/start",
        params=threads.ThreadStartParams,
        result=threads.ThreadSession,
        experimental_fields=(
            ("dynamic_tools", "dynamicTools"),
            ("experimental_raw_events", "experimentalRawEvents"),
            ("environments", "environments"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
            ("history_mode", "historyMode"),
            ("project_id", "projectId"),
            ("mock_experimental_field", "mockExperimentalField"),
        ),
    ),
    MethodSpec(
        name="thread/resume",
        params=threads.ThreadResumeParams,
        result=threads.ThreadSession,
        lane=_THREAD,
        experimental_fields=(
            ("path", "path"),
            ("history", "history"),
            ("initial_turns_page", "initialTurnsPage"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
        ),
    ),
    MethodSpec(
        name="thread/read",
        params=threads.ThreadReadParams,
        result=threads.ThreadResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/list", params=threads.ThreadListParams, result=threads.ThreadListResult
    ),
    MethodSpec(
        name="thread/loaded/list",
        params=threads.LoadedListParams,
        result=threads.LoadedListResult,
    ),
    MethodSpec(
        name="thread/archive", params=threads.ThreadIdParams, result=threads.Empty, lane=_THREAD
    ),
    MethodSpec(
        name="thread/unarchive",
        params=threads.ThreadIdParams,
        result=threads.ThreadResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/unsubscribe",
        params=threads.ThreadIdParams,
        result=threads.UnsubscribeResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="turn/start",
        params=turns.TurnStartParams,
        result=turns.TurnStartResult,
        lane=_THREAD,
        experimental_fields=(
            ("collaboration_mode", "collaborationMode"),
            ("environments", "environments"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
            ("additional_context", "additionalContext"),
            ("responsesapi_client_metadata", "responsesapiClientMetadata"),
        ),
    ),
    MethodSpec(
        name="turn/steer",
        params=turns.TurnSteerParams,
        result=turns.TurnSteerResult,
        lane=_THREAD,
    ),
    MethodSpec(name="turn/interrupt", params=turns.TurnInterruptParams, result=threads.Empty),
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
    MethodSpec(name="model/list", params=settings.ModelListParams, result=settings.ModelListResult),
    MethodSpec(
        name="account/read",
        params=settings.AccountReadParams,
        result=settings.AccountReadResult,
        lane=_ACCOUNT,
        optional_params=True,
    ),
)

_NOT_OFFERED = """
    account/gatewayOAuth/cancel account/gatewayOAuth/login account/gatewayOAuth/read
    account/login/cancel account/login/start account/logout
    account/rateLimitResetCredit/consume account/rateLimits/read account/securitySetup/read
    account/sendAddCreditsNudgeEmail account/usage/read account/workspaceMessages/read
    app/installed app/list app/read command/exec command/exec/resize command/exec/terminate
    command/exec/write config/mcpServer/reload experimentalFeature/enablement/set
    experimentalFeature/list externalAgentConfig/detect externalAgentConfig/import
    externalAgentConfig/import/readHistories externalAgentConfig/import/recordHistory
    feedback/save feedback/upload fs/copy fs/createDirectory fs/getMetadata fs/readDirectory
    fs/readFile fs/remove fs/unwatch fs/watch fs/writeFile fuzzyFileSearch getAuthStatus
    getConversationSummary gitDiffToRemote hooks/list marketplace/add marketplace/remove
    marketplace/upgrade mcpServer/oauth/login mcpServer/resource/read mcpServer/tool/call
    mcpServerStatus/list modelProvider/capabilities/read modelProvider/config/write
    modelProvider/list permissionProfile/list plugin/install plugin/installed plugin/list
    plugin/read plugin/reconcile plugin/share/checkout plugin/share/delete plugin/share/list
    plugin/share/save plugin/share/updateTargets plugin/skill/read plugin/uninstall
    review/start skills/config/write skills/extraRoots/set skills/list
    thread/approveGuardianDeniedAction thread/attachment/add thread/attachment/list
    thread/attachment/remove thread/attachmentOwner/list thread/compact/start thread/delete
    thread/fork thread/goal/clear thread/goal/get thread/goal/set thread/inject_items
    thread/items/list thread/metadata/update thread/name/set thread/revert thread/rollback
    thread/section/move thread/shellCommand thread/turns/list threadSection/create
    threadSection/delete threadSection/list threadSection/update windowsSandbox/readiness
    windowsSandbox/setupStart
"""

_NOT_OFFERED_EXPERIMENTAL = """
    account/bedrock/checkGovCloudRequirements account/bedrock/discover account/bedrock/setup
    account/gcp/setup accountSession/list accountSession/switch collaborationMode/list
    device/key/create device/key/public device/key/sign environment/add environment/info
    environment/status fuzzyFileSearch/sessionStart fuzzyFileSearch/sessionStop
    fuzzyFileSearch/sessionUpdate mcpServer/event/stream/start mcpServer/event/stream/stop
    memory/reset memory/status mock/experimentalMethod plugin/search process/kill
    process/resizePty process/spawn process/writeStdin project/create project/delete
    project/import project/list project/move project/read project/update
    remoteControl/client/list remoteControl/client/revoke remoteControl/disable
    remoteControl/enable remoteControl/pairing/start remoteControl/pairing/status
    remoteControl/status/read rollout/compress server/diagnostics
    thread/backgroundTerminals/clean thread/backgroundTerminals/list
    thread/backgroundTerminals/terminate thread/decrement_elicitation thread/guardianReview
    thread/increment_elicitation thread/items/read thread/memory/read thread/memoryMode/set
    thread/prediction/request thread/prepareApprovedPlan thread/queue/add thread/queue/delete
    thread/queue/list thread/queue/reorder thread/queue/start thread/queue/update
    thread/readState/update thread/realtime/appendAudio thread/realtime/appendSpeech
    thread/realtime/appendText thread/realtime/listVoices thread/realtime/start
    thread/realtime/stop thread/sample thread/sample/cancel thread/search
    thread/searchOccurrences thread/settings/update thread/timeline/list turn/settings/update
    userVerification/cancel userVerification/delete userVerification/enroll
    userVerification/status userVerification/verify
"""

METHODS: dict[str, MethodSpec] = {
    **{spec.name: spec for spec in _OFFERED},
    **{name: MethodSpec(name=name, offered=False) for name in _NOT_OFFERED.split()},
    **{
        name: MethodSpec(name=name, offered=False, experimental=True)
        for name in _NOT_OFFERED_EXPERIMENTAL.split()
    },
}
"""Every known method by name."""
