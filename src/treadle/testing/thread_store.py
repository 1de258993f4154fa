"""Conformance kit for thread stores: what every implementation has to keep.

Subclass `ThreadStoreContract`, give it `make_store` (and `reopen` where a home outlives a store),
and let pytest collect it. Uses the port alone; says nothing about files.
"""

import abc
from typing import Any

from treadle.domain.items import AgentMessage, TextInput, UserMessage
from treadle.domain.policy import DangerFullAccess, Settings
from treadle.domain.records import (
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
    TurnEnded,
    TurnsDropped,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import ThreadTokenUsage, TokenUsage
from treadle.engine.store.thread_store import (
    InvalidQuery,
    ThreadIsArchived,
    ThreadNotFound,
    ThreadPatch,
    ThreadQuery,
    ThreadStore,
    WriterConflict,
)
from treadle.kit.mint import new_id

START = 1_735_787_045.0
"""2025-01-02T03:04:05Z: when the kit's threads are made."""


def a_thread(thread_id: str | None = None, **fields: Any) -> ThreadCreated:
    """The first record of a thread with plausible fields."""
    made = thread_id or new_id()
    facts: dict[str, Any] = {
        "at": START,
        "thread_id": made,
        "session_id": made,
        "cwd": "/w",
        "originator": "kit",
        "cli_version": "0.0.1",
        "source": "vscode",
        "model_provider": "mock",
    }
    return ThreadCreated(**{**facts, **fields})


def settings() -> Settings:
    """Settings that differ from every default."""
    return Settings(
        model="mock-model",
        model_provider="mock",
        cwd="/w",
        approval_policy="never",
        sandbox=DangerFullAccess(),
        effort="high",
        workspace_roots=("/w", "/x"),
    )


def a_turn(text: str, *, at: float = START, answer: str = "Done") -> list[ThreadRecord]:
    """The records of a turn with one question and one answer."""
    turn_id = new_id()
    asked = UserMessage(id=new_id(), content=[TextInput(text=text)])
    said = AgentMessage(id=new_id(), text=answer)
    content = [{"type": "input_text", "text": text}]
    reply = [{"type": "output_text", "text": answer}]
    counts = TokenUsage(total_tokens=15, input_tokens=10, output_tokens=5)
    return [
        TurnStarted(at=at, turn_id=turn_id, started_at=int(at), model_context_window=1000),
        SettingsApplied(at=at, settings=settings()),
        _message(at, turn_id, "user", content),
        ItemDone(at=at, turn_id=turn_id, item=asked, started_at_ms=1, completed_at_ms=1),
        ItemDone(at=at, turn_id=turn_id, item=said, started_at_ms=2, completed_at_ms=3),
        _message(at, turn_id, "assistant", reply),
        UsageRecorded(at=at, turn_id=turn_id, usage=ThreadTokenUsage(total=counts, last=counts)),
        TurnEnded(
            at=at,
            turn_id=turn_id,
            status="completed",
            last_agent_message=answer,
            started_at=int(at),
            completed_at=int(at),
            duration_ms=7,
        ),
    ]


def _message(at: float, turn_id: str, role: str, content: list[dict[str, str]]) -> ModelItem:
    item: dict[str, Any] = {"type": "message", "role": role, "content": content}
    return ModelItem(at=at, turn_id=turn_id, item=item)


async def all_pages(store: ThreadStore, **query: Any) -> list[list[str]]:
    """Ids page by page until the list ends."""
    pages: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await store.list_threads(ThreadQuery(cursor=cursor, **query))
        pages.append([info.thread_id for info in page.threads])
        cursor = page.next_cursor
        if cursor is None:
            return pages
        assert len(pages) < 1000, "paging does not end"


class ThreadStoreContract(abc.ABC):
    """Tests of the port; `make_store` gives an empty store that the test closes itself."""

    @abc.abstractmethod
    def make_store(self, tmp_path: Any) -> ThreadStore:
        """A store; stores made for the same `tmp_path` share their threads where they persist."""

    async def stored(self, store: ThreadStore, text: str = "hello", **fields: Any) -> str:
        """A stored and closed thread with one turn; its id."""
        created = a_thread(**fields)
        writer = await store.create(created)
        writer.append([created, *a_turn(text, at=created.at)])
        await writer.flush()
        await writer.close()
        return created.thread_id

    async def test_nothing_is_stored_before_the_first_append(self, tmp_path: Any) -> None:
        """A reserved thread is neither found nor listed."""
        store = self.make_store(tmp_path)
        created = a_thread()
        writer = await store.create(created)
        assert not writer.materialized
        for ask in (store.read, store.read_records, store.open):
            assert await _fails(ask(created.thread_id), ThreadNotFound)
        assert (await store.list_threads(ThreadQuery())).threads == []
        await writer.close()
        await store.close()

    async def test_flushed_records_come_back_in_order(self, tmp_path: Any) -> None:
        """What was appended in several calls is one log."""
        store = self.make_store(tmp_path)
        created = a_thread()
        writer = await store.create(created)
        wanted: list[ThreadRecord] = [created, *a_turn("one"), *a_turn("two")]
        writer.append(wanted[:3])
        writer.append(wanted[3:9])
        writer.append(wanted[9:])
        await writer.flush()
        assert writer.materialized
        assert await store.read_records(created.thread_id) == wanted
        await store.close()

    async def test_open_continues_the_log(self, tmp_path: Any) -> None:
        """A reopened thread gives its log, and takes more behind it."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store, "one")
        before = await store.read_records(thread_id)
        writer, records = await store.open(thread_id)
        assert records == before
        more = a_turn("two")
        writer.append(more)
        await writer.close()
        assert await store.read_records(thread_id) == [*before, *more]
        await store.close()

    async def test_a_thread_has_one_writer(self, tmp_path: Any) -> None:
        """A second open is refused until the first writer is closed."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store)
        writer, _ = await store.open(thread_id)
        assert await _fails(store.open(thread_id), WriterConflict)
        assert await _fails(store.archive(thread_id), WriterConflict)
        await writer.close()
        again, _ = await store.open(thread_id)
        await again.close()
        await store.close()

    async def test_close_is_idempotent(self, tmp_path: Any) -> None:
        """Writers and stores may be closed twice, in any order."""
        store = self.make_store(tmp_path)
        created = a_thread()
        writer = await store.create(created)
        writer.append([created])
        await writer.close()
        await writer.close()
        await store.close()
        await store.close()
        await writer.close()

    async def test_unknown_threads_are_not_found(self, tmp_path: Any) -> None:
        """Each operation names the id it did not find."""
        store = self.make_store(tmp_path)
        nobody = new_id()
        for ask in (store.read, store.read_records, store.open, store.archive, store.unarchive):
            assert nobody in str(await _fails(ask(nobody), ThreadNotFound))
        assert await _fails(store.update(nobody, ThreadPatch(name="x")), ThreadNotFound)
        await store.close()

    async def test_metadata_patches_are_kept(self, tmp_path: Any) -> None:
        """Set fields change, others stay; recency only advances."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store, "first words")
        info = await store.read(thread_id)
        assert (info.preview, info.name, info.created_at) == ("first words", None, START)
        later = info.recency_at + 100
        git = {"sha": "abc", "branch": "main", "originUrl": None}
        patch = ThreadPatch(name="a name", git=git, recency_at=later, tokens_used=7)
        assert (await store.update(thread_id, patch)).name == "a name"
        await store.update(thread_id, ThreadPatch(recency_at=1.0, memory_mode="disabled"))
        info = await store.read(thread_id)
        assert (info.name, info.git, info.recency_at) == ("a name", git, later)
        assert (info.preview, info.tokens_used, info.memory_mode) == ("first words", 7, "disabled")
        assert (await store.list_threads(ThreadQuery())).threads[0].name == "a name"
        await store.close()

    async def test_pages_cover_threads_of_one_moment_once(self, tmp_path: Any) -> None:
        """Neither equal times nor a full last page lose or repeat a thread."""
        store = self.make_store(tmp_path)
        ids = {await self.stored(store, f"t{k}") for k in range(6)}
        for descending in (True, False):
            for key in ("created_at", "updated_at", "recency_at"):
                pages = await all_pages(store, limit=2, sort_key=key, descending=descending)
                assert [len(page) for page in pages] == [2, 2, 2]
                assert {thread_id for page in pages for thread_id in page} == ids
        await store.close()

    async def test_lists_are_ordered_and_go_back(self, tmp_path: Any) -> None:
        """Newest first by default; the backwards cursor leads over the page's own first row."""
        store = self.make_store(tmp_path)
        ids = [await self.stored(store, f"t{k}", at=START + k) for k in range(5)]
        assert await all_pages(store, limit=3) == [ids[:1:-1], ids[1::-1]]
        assert await all_pages(store, limit=3, descending=False) == [ids[:3], ids[3:]]
        first = await store.list_threads(ThreadQuery(limit=2))
        second = await store.list_threads(ThreadQuery(limit=2, cursor=first.next_cursor))
        back = await store.list_threads(
            ThreadQuery(limit=9, cursor=second.backwards_cursor, descending=False)
        )
        assert [info.thread_id for info in back.threads] == ids[2:]
        await store.close()

    async def test_lists_are_filtered(self, tmp_path: Any) -> None:
        """By source, provider, folder, words, family and exclusion."""
        store = self.make_store(tmp_path)
        root = await self.stored(store, "Fix the bug", at=START)
        child = await self.stored(
            store,
            "child",
            at=START + 1,
            source={"subAgent": "review"},
            parent_thread_id=root,
            cwd="/y",
        )
        grandchild = await self.stored(
            store,
            "grandchild",
            at=START + 2,
            source={"custom": "atlas"},
            parent_thread_id=child,
            model_provider="other",
        )
        wanted: list[tuple[dict[str, Any], list[str]]] = [
            ({"sources": ("vscode",)}, [root]),
            ({"sources": ("subAgent", "custom:atlas")}, [grandchild, child]),
            ({"model_providers": ("other",)}, [grandchild]),
            ({"cwds": ("/y",)}, [child]),
            ({"search_term": "Fix"}, [root]),
            ({"search_term": "fix"}, []),
            ({"search_term": "%"}, []),
            ({"parent_thread_id": root}, [child]),
            ({"ancestor_thread_id": root}, [grandchild, child]),
            ({"excluded_ids": (root, child)}, [grandchild]),
            ({"archived": True}, []),
        ]
        for query, ids in wanted:
            assert await all_pages(store, **query) == [ids], query
        await store.close()

    async def test_senseless_queries_are_refused(self, tmp_path: Any) -> None:
        """With the text that is wrong."""
        store = self.make_store(tmp_path)
        for cursor in ("garbage", ""):
            refusal = await _fails(store.list_threads(ThreadQuery(cursor=cursor)), InvalidQuery)
            assert str(refusal) == f"invalid cursor: {cursor}"
        assert await _fails(store.list_threads(ThreadQuery(sort_key="size")), InvalidQuery)
        await store.close()

    async def test_archive_and_back_keeps_the_log(self, tmp_path: Any) -> None:
        """An archived thread is readable, listed apart and closed for writing."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store, "words")
        before = await store.read_records(thread_id)
        await store.archive(thread_id)
        assert (await store.read(thread_id)).archived
        assert await store.read_records(thread_id) == before
        assert await all_pages(store) == [[]]
        assert await all_pages(store, archived=True) == [[thread_id]]
        assert await _fails(store.open(thread_id), ThreadIsArchived)
        assert await _fails(store.archive(thread_id), ThreadNotFound)
        assert not (await store.unarchive(thread_id)).archived
        assert await _fails(store.unarchive(thread_id), ThreadNotFound)
        assert await all_pages(store) == [[thread_id]]
        writer, records = await store.open(thread_id)
        assert records == before
        await writer.close()
        await store.close()

    async def test_a_deleted_thread_is_gone(self, tmp_path: Any) -> None:
        """Active or archived, with its name and its edges; others stay."""
        store = self.make_store(tmp_path)
        kept, gone, archived = [await self.stored(store, word) for word in ("a", "b", "c")]
        await store.update(gone, ThreadPatch(name="secret"))
        await store.link(kept, gone)
        await store.archive(archived)
        for thread_id in (gone, archived):
            await store.delete(thread_id)
            assert await _fails(store.read(thread_id), ThreadNotFound)
            assert await _fails(store.delete(thread_id), ThreadNotFound)
        assert await all_pages(store) == [[kept]]
        assert await all_pages(store, archived=True) == [[]]
        assert await store.descendants(kept) == []
        await store.close()

    async def test_a_thread_in_use_is_not_deleted(self, tmp_path: Any) -> None:
        """Its writer goes on undisturbed."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store)
        writer, _ = await store.open(thread_id)
        assert await _fails(store.delete(thread_id), WriterConflict)
        writer.append(a_turn("more"))
        await writer.close()
        assert len(await store.read_records(thread_id)) == 1 + 2 * len(a_turn("x"))
        await store.close()

    async def test_descendants_come_level_by_level(self, tmp_path: Any) -> None:
        """By links and by heads alike, whether stored or not, each once."""
        store = self.make_store(tmp_path)
        root = await self.stored(store, "root")
        child = await self.stored(store, "child", parent_thread_id=root)
        missing = new_id()
        grandchild = await self.stored(store, "grandchild")
        await store.link(root, missing)
        await store.link(missing, grandchild)
        await store.link(grandchild, root)
        assert await store.descendants(root) == [*sorted((child, missing)), grandchild]
        assert await store.descendants(child) == []
        await store.close()

    async def test_dropped_turns_are_not_read_again(self, tmp_path: Any) -> None:
        """What came after their beginning goes with them; what follows the drop stays."""
        store = self.make_store(tmp_path)
        created = a_thread()
        writer = await store.create(created)
        first, last = a_turn("one"), a_turn("four")
        writer.append([created, *first, *a_turn("two"), *a_turn("three")])
        writer.append([TurnsDropped(num_turns=2), *last])
        await writer.close()
        expected = [created, *first, *last]
        assert await store.read_records(created.thread_id) == expected
        writer, records = await store.open(created.thread_id)
        assert records == expected
        await writer.close()
        await store.close()

    async def test_what_is_mentioned_is_never_denied(self, tmp_path: Any) -> None:
        """In any case, in any script, quoted or not."""
        store = self.make_store(tmp_path)
        thread_id = await self.stored(store, 'A Zebra, a "\u00fcber" <tag>')
        for text in ("zebra", "ZEBRA", "\u00fcBER", '"', "<tag>"):
            assert await store.may_mention(thread_id, text), text
        assert await _fails(store.may_mention(new_id(), "x"), ThreadNotFound)
        await store.close()


async def _fails(ask: Any, kind: type[Exception]) -> Exception | None:
    """The error of this kind that `ask` raised; None when it raised none."""
    try:
        await ask
    except kind as error:
        return error
    return None
