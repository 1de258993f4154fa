"""What a row of the method table says, and the keys that requests are serialised by."""

from typing import Any, Literal

import msgspec

Access = Literal["exclusive", "shared"]


class Lane(msgspec.Struct, frozen=True):
    """What a request is serialised by: requests of one key run one after another.

    Attributes:
        kind: what the key names, such as `thread` or `config`.
        field: the attribute of the parameters that completes the key; None for one lane in all.
        access: neighbouring `shared` requests run together.
        per_connection: whether each connection has lanes of its own.
    """

    kind: str
    field: str | None = None
    access: Access = "exclusive"
    per_connection: bool = False


class LaneKey(msgspec.Struct, frozen=True):
    """One lane: requests with equal keys never overlap, unless both are shared."""

    kind: str
    name: str
    connection: int


class MethodSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One method that a client may call.

    Attributes:
        name: `<resource>/<verb>` on the wire.
        params: type of the parameters; None for a method that takes none.
        result: type of the result, for documentation and clients.
        lane: what it is serialised by; None for nothing.
        experimental: whether the client must have opted in.
        experimental_fields: parameters (attribute, wire name) that need the opt-in when set.
        optional_params: whether parameters may be left out altogether.
        wakes: whether a thread that rests comes back to memory for it; False for reads of the log.
        offered: False for a method of a reference version that this server does not have.
    """

    name: str
    params: Any = None
    result: Any = None
    lane: Lane | None = None
    experimental: bool = False
    experimental_fields: tuple[tuple[str, str], ...] = ()
    optional_params: bool = False
    wakes: bool = True
    offered: bool = True

    def lane_key(self, params: Any, connection: int) -> LaneKey | None:
        """The lane of a request with these decoded parameters; None when it has none."""
        lane = self.lane
        if lane is None:
            return None
        name = ""
        if lane.field is not None:
            name = getattr(params, lane.field, None) or ""
            if not name:
                return None
        return LaneKey(lane.kind, name, connection if lane.per_connection else 0)
