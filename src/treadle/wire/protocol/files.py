"""Parameters, results and the notification of `fs/*` (protocol 0.129.0 and 0.169.0)."""

from treadle.domain.items import Shape


class PathParams(Shape, kw_only=True):
    """Parameters of `fs/readFile`, `fs/getMetadata` and `fs/readDirectory`: an absolute path."""

    path: str


class FileContent(Shape, kw_only=True):
    """What a file holds; written as padded base64."""

    data_base64: bytes


class WriteFileParams(Shape, kw_only=True):
    """Parameters of `fs/writeFile`."""

    path: str
    data_base64: str


class CreateDirectoryParams(Shape, kw_only=True):
    """Parameters of `fs/createDirectory`; null means what leaving out means."""

    path: str
    recursive: bool | None = None


class Metadata(Shape, kw_only=True):
    """Result of `fs/getMetadata`: of what is behind a link; times are 0 when unknown."""

    is_directory: bool
    is_file: bool
    is_symlink: bool
    created_at_ms: int
    modified_at_ms: int


class DirectoryEntry(Shape, kw_only=True):
    """One name in a folder, and the kind behind a link."""

    file_name: str
    is_directory: bool
    is_file: bool


class Directory(Shape, kw_only=True):
    """Result of `fs/readDirectory`."""

    entries: list[DirectoryEntry]


class RemoveParams(Shape, kw_only=True):
    """Parameters of `fs/remove`; null means what leaving out means, which is true for both."""

    path: str
    recursive: bool | None = None
    force: bool | None = None


class CopyParams(Shape, kw_only=True):
    """Parameters of `fs/copy`."""

    source_path: str
    destination_path: str
    recursive: bool = False


class WatchParams(Shape, kw_only=True):
    """Parameters of `fs/watch`; the id is the caller's choice."""

    path: str
    watch_id: str


class WatchResult(Shape, kw_only=True):
    """Result of `fs/watch`: the normalised path."""

    path: str


class UnwatchParams(Shape, kw_only=True):
    """Parameters of `fs/unwatch`."""

    watch_id: str


class Changed(Shape, kw_only=True):
    """Notification `fs/changed`: what changed since the last one of this watch."""

    watch_id: str
    changed_paths: list[str]
