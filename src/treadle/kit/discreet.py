"""Values that carry secrets and do not show them: not in logs, not in failed assertions."""

from typing import ClassVar

import msgspec


class Discreet(msgspec.Struct, frozen=True):
    """A frozen value whose repr leaves out the fields that its class names in `unseen`."""

    unseen: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name not in self.unseen)
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"
