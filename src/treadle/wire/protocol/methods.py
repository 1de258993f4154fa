"""THE table: every method that a client may call, one row each.

Dispatch, the typed client, the reference page and the completeness test are derived from it. A
method of either reference version (0.129.0, 0.169.0) that this server does not offer has a row too:
it answers that it is not supported. Rows of a conversation, which every client has, are here; the
others load when one of them is asked for: `thread_methods`, `host_methods`, `not_offered`. Lanes
follow the references' measured scopes, but for `turn/interrupt`, which has none: what must
interrupt may not wait behind what it interrupts.
"""

from collections.abc import Mapping

from treadle.wire.protocol import initialize, threads, turns
from treadle.wire.protocol.late_table import LateTable
from treadle.wire.protocol.method_spec import Lane, MethodSpec

_THREAD = Lane("thread", "thread_id")

_CONVERSATION = (
    MethodSpec(
        name="initialize", params=initialize.InitializeParams, result=initialize.InitializeResult
    ),
    MethodSpec(
        name="thread/start",
        params=threads.ThreadStartParams,
        result=threads.ThreadSession,
        experimental_fields=(
            ("budget", "budget"),
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
        result=threads.ResumedSession,
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
        result=threads.ReadThread,
        lane=_THREAD,
        wakes=False,
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
        name="thread/unsubscribe",
        params=threads.ThreadIdParams,
        result=threads.UnsubscribeResult,
        lane=_THREAD,
        wakes=False,
    ),
    MethodSpec(
        name="turn/start",
        params=turns.TurnStartParams,
        result=turns.TurnStartResult,
        lane=_THREAD,
        experimental_fields=(
            ("budget", "budget"),
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
        name="turn/settings/update",
        params=turns.TurnSettingsParams,
        result=turns.TurnSettingsResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="collaborationMode/list",
        params=threads.Empty,
        result=turns.CollaborationModes,
        experimental=True,
        optional_params=True,
    ),
)


def _of_conversations() -> Mapping[str, MethodSpec]:
    return {spec.name: spec for spec in _CONVERSATION}


def _of_threads() -> Mapping[str, MethodSpec]:
    from treadle.wire.protocol.thread_methods import THREAD_METHODS

    return {spec.name: spec for spec in THREAD_METHODS}


def _of_the_host() -> Mapping[str, MethodSpec]:
    from treadle.wire.protocol.host_methods import HOST_METHODS

    return {spec.name: spec for spec in HOST_METHODS}


def _not_offered() -> Mapping[str, MethodSpec]:
    from treadle.wire.protocol.not_offered import NOT_OFFERED, NOT_OFFERED_EXPERIMENTAL

    return {
        **{name: MethodSpec(name=name, offered=False) for name in NOT_OFFERED.split()},
        **{
            name: MethodSpec(name=name, offered=False, experimental=True)
            for name in NOT_OFFERED_EXPERIMENTAL.split()
        },
    }


METHODS = LateTable(_of_conversations, _of_threads, _of_the_host, _not_offered)
"""Every known method by name."""
