"""Parameters and results of `feedback/*` (protocol 0.129.0 and 0.169.0)."""

from treadle.domain.items import Shape


class FeedbackParams(Shape, kw_only=True):
    """What a user has to say, and what to put beside it. Parameters of `feedback/upload`."""

    classification: str
    reason: str | None = None
    thread_id: str | None = None
    include_logs: bool = False
    extra_log_files: list[str] | None = None
    tags: dict[str, str] | None = None


class FeedbackSaveParams(FeedbackParams, kw_only=True):
    """Parameters of `feedback/save`: where to write the archive, a new file."""

    save_path: str


class FeedbackSent(Shape, kw_only=True):
    """Result of `feedback/upload`."""

    thread_id: str
    prompt_hash: str | None = None


class FeedbackSaved(FeedbackSent, kw_only=True):
    """Result of `feedback/save`."""

    saved_path: str
