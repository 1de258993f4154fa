"""Keeps the Jobs in the cluster as the runs in the database want them.

Each pass reads the runs, looks at its mirror of the cluster, and starts what `plan` says; what is
under way is not started twice, and a call that hangs holds up nothing else. A pass follows each
change that is told, and a pause where nothing is. Any number of managers may do this at once.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from treadle.control.db.repository import WORK_WAITING, Departure, Repository
from treadle.control.events import Bells
from treadle.control.faults import NotFound, Stopping
from treadle.control.placed import GivenUp
from treadle.control.placement.kubernetes.api_types import Job, Pod
from treadle.control.placement.kubernetes.client import (
    JOBS,
    PODS,
    ApiRefused,
    ApiUnreachable,
    Conflict,
    KubernetesClient,
)
from treadle.control.placement.kubernetes.fates import VANISHED, fate_by_events
from treadle.control.placement.kubernetes.manifests import RUN_ID, job_manifest, selector, why_not
from treadle.control.placement.kubernetes.mirror import Mirror
from treadle.control.placement.kubernetes.plan import (
    Action,
    Create,
    Delete,
    GiveUp,
    LookFor,
    Picture,
    ReportGone,
    make_plan,
)
from treadle.control.placement.kubernetes.settings import KubernetesSettings
from treadle.control.records import Placement, RunSpec
from treadle.domain.failures import FailureKind
from treadle.kit.clock import Clock
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

RESYNC_SECONDS = 5.0
GATHER_SECONDS = 0.05
"""Changes that come together are answered by one pass."""
AT_ONCE = 16
AGAIN_SECONDS = 2.0
"""Before what failed, or what the mirror does not show yet, is tried again."""
LINGER_SECONDS = 30.0
"""What a runner whose run has ended gets to end by itself."""
CLOSE_SECONDS = 5.0
MORE_RUNS = 500


class KubernetesPlacer:
    """A `Placer` of Kubernetes Jobs."""

    placement: Placement = "kubernetes-job"

    def __init__(
        self,
        client: KubernetesClient,
        settings: KubernetesSettings,
        repository: Repository,
        bells: Bells,
        clock: Clock,
    ) -> None:
        """Do nothing before `run`, which also closes the client."""
        self._client = client
        self._settings = settings
        self._repository = repository
        self._bells = bells
        self._clock = clock
        self._under_way: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._unwanted_since: dict[str, float] = {}

    def why_not(self, spec: RunSpec) -> str | None:
        """See `Placer`."""
        return why_not(spec, self._settings)

    async def run(self) -> None:
        """See `Placer`."""
        scope = TaskScope("kubernetes")
        try:
            with self._bells.watch(WORK_WAITING) as news:
                chosen = selector(self._settings)
                jobs = Mirror(self._client, JOBS, chosen, news.set, self._clock)
                pods = Mirror(self._client, PODS, chosen, news.set, self._clock)
                scope.start(jobs.run(), "jobs")
                scope.start(pods.run(), "pods")
                await self._reconcile(_Round(jobs, pods, news, scope))
        finally:
            await scope.close(CLOSE_SECONDS)
            await self._client.close()

    async def _reconcile(self, about: "_Round") -> None:
        while not self._bells.closed:
            about.news.clear()
            pause = RESYNC_SECONDS
            try:
                pause = min(pause, await self._pass(about))
            except Stopping:
                return
            except Exception:  # without passes no run gets a runner: never give up
                logger.exception("a look at the runs to be placed failed; trying again")
            try:
                async with asyncio.timeout(pause):
                    await about.news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_SECONDS)

    async def _pass(self, about: "_Round") -> float:
        """Look once and start what is to be done; seconds until another look is due."""
        if not (about.jobs.is_known and about.pods.is_known):
            return RESYNC_SECONDS
        # The picture is older than what the database says: a Job in it is that of a known run.
        picture = Picture(
            jobs=dict(about.jobs.items),
            pods=dict(about.pods.items),
            departed=dict(about.pods.departed),
            is_fresh=about.jobs.is_fresh and about.pods.is_fresh,
            now=datetime.fromtimestamp(self._clock.now(), UTC),
        )
        unfinished = [job for job in picture.jobs.values() if not job.is_finished]
        named = sorted({job.label(RUN_ID) or "" for job in unfinished})
        limit = self._settings.max_jobs + MORE_RUNS
        runs = await self._repository.read_placed(self.placement, limit, named)
        plan = make_plan(runs, picture, self._settings)
        self._forget(plan.actions)
        again = plan.again_seconds
        for action in plan.actions:
            again = min(again, self._begin(action, about))
        return again

    def _begin(self, action: Action, about: "_Round") -> float:
        """Start an action unless it is not its time; seconds until it may be."""
        now, key = self._clock.monotonic(), _key_of(action)
        if isinstance(action, Delete) and not action.at_once:
            since = self._unwanted_since.setdefault(action.uid, now)
            if now - since < LINGER_SECONDS:
                return LINGER_SECONDS - (now - since)
        if key in self._under_way or len(self._under_way) >= AT_ONCE:
            return RESYNC_SECONDS  # its end is news
        wait = self._not_before.get(key, now) - now
        if wait > 0:
            return wait
        self._under_way.add(key)
        about.scope.start(self._carry_out(action, key, about), key)
        return RESYNC_SECONDS

    async def _carry_out(self, action: Action, key: str, about: "_Round") -> None:
        try:
            await self._do(action, about)
        except (ApiRefused, ApiUnreachable) as error:
            logger.warning("%s: %s; trying again", key, error)
        except Stopping:
            return
        except Exception:
            logger.exception("%s failed; trying again", key)
        finally:
            self._under_way.discard(key)
            self._not_before[key] = self._clock.monotonic() + AGAIN_SECONDS
            about.news.set()

    def _do(self, action: Action, about: "_Round") -> Coroutine[Any, Any, None]:
        match action:
            case Create():
                return self._create(action, about)
            case Delete():
                logger.info("deleting Job %s", action.name)
                return self._client.delete_job(action.name, action.uid)
            case ReportGone():
                return self._report_gone(action)
            case LookFor():
                return self._look_for(action)
            case GiveUp():
                return self._give_up(action)

    async def _create(self, action: Create, about: "_Round") -> None:
        run = await self._repository.read_run(action.run_id)
        reason = why_not(run, self._settings)
        if reason is not None:  # the settings have changed since the run was taken
            kind = FailureKind.BACKEND_SPAWN_FAILED
            given_up = GivenUp(run.id, action.epoch, kind, reason, is_hopeless=True)
            await self._repository.give_up_attempt(given_up)
            return
        manifest = job_manifest(run, action.epoch, self._settings)
        try:
            about.jobs.learn(await self._client.create_job(manifest))
        except Conflict:  # made by another manager, or by us when the answer was lost
            return
        logger.info("made Job %s", manifest["metadata"]["name"])

    async def _report_gone(self, action: ReportGone) -> None:
        try:
            runner = await self._repository.read_runner(action.runner_id)
        except NotFound:
            return
        fate = action.fate
        departure = Departure(runner.id, runner.session_id, fate.words, kind=fate.kind)
        await self._repository.end_session(departure)

    async def _look_for(self, action: LookFor) -> None:
        """A pod that the cluster does not have once its runner holds a run was there before."""
        query = {"fieldSelector": f"metadata.name={action.runner_id}"}
        if not (await self._client.list_all(PODS, **query)).items:
            await self._report_gone(ReportGone(action.runner_id, VANISHED))

    async def _give_up(self, action: GiveUp) -> None:
        fate = action.fate
        if action.ask is not None:
            fate = fate_by_events(fate, await self._client.events_of(action.ask))
        await self._repository.give_up_attempt(action.with_fate(fate))

    def _forget(self, actions: list[Action]) -> None:
        """Forget what is over, so that nothing here grows with time."""
        now = self._clock.monotonic()
        self._not_before = {key: at for key, at in self._not_before.items() if at > now}
        lingering = {each.uid for each in actions if isinstance(each, Delete)}
        self._unwanted_since = {
            uid: since for uid, since in self._unwanted_since.items() if uid in lingering
        }


class _Round:
    """What a run of the placer works with."""

    def __init__(
        self, jobs: Mirror[Job], pods: Mirror[Pod], news: asyncio.Event, scope: TaskScope
    ) -> None:
        self.jobs = jobs
        self.pods = pods
        self.news = news
        self.scope = scope


def _key_of(action: Action) -> str:
    """What of it is done once at a time."""
    match action:
        case Create():
            return f"create {action.run_id} {action.epoch}"
        case Delete():
            return f"delete {action.name} {action.uid}"
        case ReportGone():
            return f"report {action.runner_id}"
        case LookFor():
            return f"look for {action.runner_id}"
        case GiveUp():
            return f"give up {action.run_id} {action.epoch}"
