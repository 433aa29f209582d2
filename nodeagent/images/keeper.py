"""Makes sure an image is present before a container is made from it: policy, serial pulls, back-off, events."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from kube import types
from kube.client.events import EventRecorder
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import records, runtime
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.images import credentials, names
from nodeagent.pods import spec

log = logging.getLogger(__name__)

BASE: Final = 10.0
CAP: Final = 300.0
PULL_DEADLINE: Final = 1800.0  # seconds; the runtime itself gives up on a stuck registry long before
Logins = Callable[[], Awaitable[Sequence[credentials.Credential]]]
KEPT_REASONS: Final = ("RegistryUnavailable", "SignatureValidationFailed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failed pull of an image for a pod; `retry_at` on the monotonic clock."""

    message: str
    delay: float
    retry_at: float


class ImageKeeper:
    """Images of the node's runtime. One pull at a time: registries and disks serve one stream best."""

    def __init__(self, images: runtime.Images, *, events: EventRecorder, clock: Clock) -> None:
        self._images = images
        self._events = events
        self._clock = clock
        self._pulling = asyncio.Lock()
        self._failures: dict[tuple[str, str], Failure] = {}

    async def ensure(
        self,
        pod: types.Pod,
        container: spec.AnyContainer,
        *,
        sandbox: cri.PodSandboxConfig,
        logins: Logins,
    ) -> records.Image:
        """The container's image, pulled if its policy says so; StartError with the waiting reason otherwise.

        `logins` reads the pod's registry credentials; it is asked only for a pull.
        """
        image = names.normalise(container.image)
        if image is None:
            message = f'couldn\'t parse image name "{container.image}": invalid reference format'
            self._event(pod, container, "Warning", "InspectFailed", f"Failed to apply default image tag: {message}")
            raise errors.StartError(
                "InvalidImageName", f'Failed to apply default image tag "{container.image}": {message}'
            )
        policy = container.image_pull_policy or names.default_policy(container.image)
        present = await self._inspect(pod, container, image)
        if present is not None and policy != "Always":
            message = f'Container image "{container.image}" already present on machine'
            self._event(pod, container, "Normal", "Pulled", message)
            return present
        if policy == "Never":
            message = f'Container image "{container.image}" is not present with pull policy of Never'
            self._event(pod, container, "Warning", "ErrImageNeverPull", message)
            raise errors.StartError("ErrImageNeverPull", message)
        return await self._pull(pod, container, image, sandbox=sandbox, logins=logins)

    def forget(self, uid: str) -> None:
        """Forgets the failures of a pod that is gone."""
        for key in [key for key in self._failures if key[0] == uid]:
            del self._failures[key]

    async def _inspect(self, pod: types.Pod, container: spec.AnyContainer, image: str) -> records.Image | None:
        try:
            return await self._images.status(image)
        except errors.RuntimeUnavailable:
            raise
        except errors.RuntimeFault as e:
            message = f'Failed to inspect image "{container.image}": {e.message}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise errors.StartError("ImageInspectError", message) from e

    async def _pull(
        self,
        pod: types.Pod,
        container: spec.AnyContainer,
        image: str,
        *,
        sandbox: cri.PodSandboxConfig,
        logins: Logins,
    ) -> records.Image:
        key = (pod.metadata.uid, image)
        self._check_back_off(pod, container, key)
        asked = self._clock.monotonic()
        async with self._pulling:
            began = self._clock.monotonic()
            self._event(pod, container, "Normal", "Pulling", f'Pulling image "{container.image}"')
            try:
                async with asyncio.timeout(PULL_DEADLINE):
                    pulled = await self._try(image, await logins(), sandbox=sandbox)
                found = await self._images.status(pulled)
            except (errors.RuntimeFault, TimeoutError) as e:
                raise self._failed(pod, container, key, e) from e
        self._failures.pop(key, None)
        now = self._clock.monotonic()
        size = f" Image size: {found.size} bytes." if found else ""
        took = f"{now - began:.3f}s ({now - asked:.3f}s including waiting)"
        message = f'Successfully pulled image "{container.image}" in {took}.{size}'
        self._event(pod, container, "Normal", "Pulled", message)
        return found or records.Image(id=pulled)

    async def _try(self, image: str, known: Sequence[credentials.Credential], *, sandbox: cri.PodSandboxConfig) -> str:
        """A pull with each fitting login in turn, or without any if none fits; the last failure counts."""
        fitting = credentials.fitting(image, known)
        for each in fitting[:-1]:
            try:
                return await self._images.pull(image, auth=auth_of(each), sandbox=sandbox)
            except errors.RuntimeUnavailable:
                raise
            except errors.RuntimeFault as e:
                log.debug("pull of %s as %s: %s", image, each.username, e.message)
        auth = auth_of(fitting[-1]) if fitting else None
        return await self._images.pull(image, auth=auth, sandbox=sandbox)

    def _check_back_off(self, pod: types.Pod, container: spec.AnyContainer, key: tuple[str, str]) -> None:
        failure = self._failures.get(key)
        left = failure.retry_at - self._clock.monotonic() if failure else 0.0
        if failure is None or left <= 0:
            return
        message = f'Back-off pulling image "{container.image}": {failure.message}'
        self._event(pod, container, "Normal", "BackOff", message)
        self._event(pod, container, "Warning", "Failed", "Error: ImagePullBackOff")
        raise errors.StartError("ImagePullBackOff", message, retry_after=left)

    def _failed(
        self, pod: types.Pod, container: spec.AnyContainer, key: tuple[str, str], error: Exception
    ) -> errors.StartError:
        said = error.message if isinstance(error, errors.RuntimeFault) else f"no end after {PULL_DEADLINE:.0f} s"
        reason = next((r for r in KEPT_REASONS if said.startswith(r)), "ErrImagePull")
        before = self._failures.get(key)
        delay = min(before.delay * 2, CAP) if before else BASE
        self._failures[key] = Failure(
            message=f"{reason}: {said}", delay=delay, retry_at=self._clock.monotonic() + delay
        )
        self._event(pod, container, "Warning", "Failed", f'Failed to pull image "{container.image}": {said}')
        self._event(pod, container, "Warning", "Failed", f"Error: {reason}")
        # Seen again soon, so that the status goes on to ImagePullBackOff as users know it.
        return errors.StartError(reason, said, retry_after=min(delay, 2.0))

    def _event(self, pod: types.Pod, container: spec.AnyContainer, type_: str, reason: str, message: str) -> None:
        self._events.event(spec.reference(pod, container.name), type_, reason, message)


def auth_of(login: credentials.Credential) -> cri.AuthConfig:
    """A login as CRI takes it."""
    return cri.AuthConfig(username=login.username, password=login.password, identity_token=login.identity_token)
