"""Keeps the kernel's policy rules as the API says, and lets no pod of this node start before its rules are in.

Owns the loop: informers -> tracker -> rules. While the cluster has no NetworkPolicy there is neither a table nor a copy
of pods and namespaces.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from cni.policy import model, rules, ruleset
from cni.policy.attached import Attached
from cni.policy.kernel import Rules, RulesError
from cni.policy.model import PolicyNamespace, PolicyPod
from cni.policy.tracker import Tracker
from kube import scheme
from kube.client.informer import Informer, Informers
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.types import NetworkPolicy

log = logging.getLogger(__name__)

ADMISSION_SECONDS = 10.0
RESYNC_SECONDS = 300.0
RETRY = (0.1, 10.0)
UNKNOWN = "the rules of pod {} could not be put in place within {:g} s: {}"


class NotAdmitted(Exception):
    """A pod's rules are not in place; the runtime is to try again."""


@dataclass(slots=True)
class Admission:
    """A sandbox that waits for its pod's rules; then the addresses that it holds, which the API may report later."""

    attached: Attached
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Policies:
    """The policies of one node's pods."""

    def __init__(self, rules: Rules, *, informers: Informers, node_name: str, clock: Clock) -> None:
        self._rules = rules
        self._informers = informers
        self._node = node_name
        self._clock = clock
        self._policies = informers.get(scheme.NETWORK_POLICIES, NetworkPolicy)
        self._pods: Informer[PolicyPod] | None = None
        self._namespaces: Informer[PolicyNamespace] | None = None
        self._tracker = Tracker()
        self._admissions: dict[str, Admission] = {}
        self._wake = asyncio.Event()
        self._full = True
        self._applied = False

    @property
    def active(self) -> bool:
        """Whether the cluster has a policy at all."""
        return bool(self._policies.cache)

    def ready(self) -> str | None:
        """None once the rules are those of the API."""
        if self._applied:
            return None
        waiting = [each for each in (self._policies, self._pods, self._namespaces) if each and not each.synced]
        return f"waiting for the list of {waiting[0].selection}" if waiting else "policy rules are not in place yet"

    def table_families(self) -> frozenset[str]:
        """In which families our table is to be there, in nft's words."""
        return frozenset() if self._tracker.idle or not self._applied else frozenset(ruleset.FAMILIES.values())

    async def rules_gone(self) -> None:
        """Somebody may have removed our rules: all of them are written anew."""
        if self.table_families():
            self._full = True
            self._wake.set()

    async def run(self) -> None:
        """Policies first; while there are some, also pods and namespaces."""
        await self._policies.wait_synced()
        with contextlib.ExitStack() as subscribed:
            subscribed.callback(self._policies.subscribe(self._policy_changed))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resync())
                while True:
                    while not self._policies.cache:
                        await self._without_policies()
                    async with self._world():
                        await self._with_policies()

    async def admit(self, attached: Attached) -> None:
        """Returns when the rules for a new sandbox of this node are in. Raises NotAdmitted."""
        key, admission = attached.key, Admission(attached)
        self._admissions[key] = admission
        self._note_pod(key)
        try:
            async with asyncio.timeout(ADMISSION_SECONDS):
                await self._policies.wait_synced()
                if self._policies.cache:
                    await admission.done.wait()
                admission.done.set()
        except TimeoutError:
            self.forget(attached)
            reason = self.ready() or "the API server does not know the pod"
            raise NotAdmitted(UNKNOWN.format(key, ADMISSION_SECONDS, reason)) from None

    def restore(self, found: Iterable[Attached]) -> None:
        """Sandboxes from before this process; to be called before `run`."""
        for attached in found:
            self._admissions[attached.key] = Admission(attached)
            self._admissions[attached.key].done.set()

    def forget(self, attached: Attached) -> None:
        """A sandbox lost its addresses; that of another sandbox of the same pod is not meant."""
        admission = self._admissions.get(attached.key)
        if admission is not None and admission.attached.sandbox == attached.sandbox:
            del self._admissions[attached.key]
            self._note_pod(attached.key)

    def _policy_changed(self, old: NetworkPolicy | None, new: NetworkPolicy | None) -> None:
        changed = new or old
        if changed is None or (old is not None and new is not None and old.spec == new.spec):
            return
        key = f"{changed.metadata.namespace}/{changed.metadata.name}"
        try:
            self._tracker.policy(key, rules.policy(new) if new else None)
        except rules.PolicyError as error:
            log.error("%s: what it was before stays in force; correct it", error)
        self._wake.set()

    def _pod_changed(self, old: PolicyPod | None, new: PolicyPod | None) -> None:
        changed = new or old
        if changed is not None:
            self._note_pod(f"{changed.metadata.namespace}/{changed.metadata.name}")

    def _namespace_changed(self, old: PolicyNamespace | None, new: PolicyNamespace | None) -> None:
        changed = new or old
        if changed is not None:
            self._tracker.namespace(changed.metadata.name, new.metadata.labels if new else None)
            self._wake.set()

    def _note_pod(self, key: str) -> None:
        if self._pods is None:
            return
        found = self._pods.cache.get(key)
        admission = self._admissions.get(key)
        ours = found is not None and admission is not None and model.is_pod(found, admission.attached.uid)
        if admission is not None and admission.done.is_set() and not ours:
            del self._admissions[key]  # it is gone, or another pod has its name
        addresses = admission.attached.addresses if admission is not None and ours else ()
        self._tracker.pod(key, model.pod(found, node=self._node, attached=addresses) if found else None)
        self._wake.set()

    async def _without_policies(self) -> None:
        """No table, no copies; a pod needs to wait for nothing."""
        self._tracker = Tracker()
        self._full = True
        await self._apply_retrying()
        for admission in self._admissions.values():
            admission.done.set()
        await self._woken()

    @contextlib.asynccontextmanager
    async def _world(self) -> AsyncIterator[None]:
        """Copies of pods and namespaces for as long as there are policies."""
        self._tracker, self._full = Tracker(), True
        pods = self._informers.get(scheme.PODS, PolicyPod)
        namespaces = self._informers.get(scheme.NAMESPACES, PolicyNamespace)
        self._pods, self._namespaces = pods, namespaces
        undo: list[Callable[[], None]] = []
        try:
            await pods.wait_synced()
            await namespaces.wait_synced()
            for policy in self._policies.cache.values():
                self._policy_changed(None, policy)
            undo = [namespaces.subscribe(self._namespace_changed), pods.subscribe(self._pod_changed)]
            for key in list(self._admissions):
                self._note_pod(key)
            yield
        finally:
            self._pods = self._namespaces = None
            for each in undo:
                each()
            for informer in (pods, namespaces):
                self._informers.release(informer)

    async def _with_policies(self) -> None:
        while self._policies.cache:
            await self._apply_retrying()
            await self._woken()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _apply_retrying(self) -> None:
        backoff = Backoff(*RETRY)
        while True:
            try:
                await self._apply()
                return
            except RulesError as error:
                delay = backoff.next("policy")
                log.error("policy rules could not be written, all are written anew in %.1f s: %s", delay, error)
                self._full, self._applied = True, False
                await self._clock.sleep(delay)

    async def _apply(self) -> None:
        waiting = [each for key, each in self._admissions.items() if self._is_known(key, each)]
        change = self._tracker.settle()
        full, self._full = self._full, False
        # Without chains there is nothing to judge: the table itself comes and goes with the first and last of them.
        if full or bool(change.before.chains) != bool(change.after.chains):
            await self._rules.replace(self._tracker.wanted())
        elif change and change.after.chains:
            await self._rules.change(change)
        self._applied = True
        for admission in waiting:
            admission.done.set()

    def _is_known(self, key: str, admission: Admission) -> bool:
        found = self._pods.cache.get(key) if self._pods is not None else None
        return found is not None and model.is_pod(found, admission.attached.uid)

    async def _resync(self) -> None:
        """Damage that no notice tells of is mended by a whole write now and then."""
        while True:
            await self._clock.sleep(RESYNC_SECONDS)
            await self.rules_gone()
