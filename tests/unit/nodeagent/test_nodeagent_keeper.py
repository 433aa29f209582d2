"""Images: names, policies, and how a pull that fails is told and tried again."""

from collections.abc import Mapping
from typing import Any

import pytest
from nodeagent_given import IMAGE, container, pod

from nodeagent import errors
from nodeagent.cri import records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.images import credentials, keeper, names
from tests.fakes.clock import LoopClock
from tests.fakes.runtime import FakeRuntime

ABSENT = "nodeagent.local/absent:1"


class Events:
    """Keeps (type, reason, message)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def event(self, reference: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        self.told.append((type_, reason, message))


class Clock(LoopClock):
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


class Case:
    """An image keeper over a fake runtime."""

    def __init__(self) -> None:
        self.runtime, self.events, self.clock = FakeRuntime(), Events(), Clock()
        self.known: list[credentials.Credential] = []
        self.keeper = keeper.ImageKeeper(self.runtime.images, events=self.events, clock=self.clock)  # type: ignore[arg-type]

    async def ensure(self, image: str, policy: str | None = None) -> records.Image:
        made = pod(container(image=image, imagePullPolicy=policy))
        return await self.keeper.ensure(
            made, made.spec.containers[0], sandbox=cri.PodSandboxConfig(), logins=self.logins
        )

    async def logins(self) -> list[credentials.Credential]:
        return self.known

    async def refused(self, image: str, policy: str | None = None) -> errors.StartError:
        with pytest.raises(errors.StartError) as caught:
            await self.ensure(image, policy)
        return caught.value


@pytest.mark.parametrize(
    ("image", "normal"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1", "busybox:1"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("example.com/a@sha256:" + "0" * 64, "example.com/a@sha256:" + "0" * 64),
        ("Upper/Case", None),
        ("with space", None),
        ("", None),
        ("a:b:c", None),
        ("0" * 64, None),
    ],
)
def test_names(image: str, normal: str | None) -> None:
    assert names.normalise(image) == normal


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_default_policy(image: str, policy: str) -> None:
    assert names.default_policy(image) == policy


async def test_an_image_that_is_there_is_not_pulled() -> None:
    case = Case()
    assert (await case.ensure(IMAGE)).id == "sha256:bb"
    assert case.events.told == [("Normal", "Pulled", f'Container image "{IMAGE}" already present on machine')]
    assert case.runtime.calls == []


async def test_always_pulls_even_what_is_there() -> None:
    case = Case()
    case.runtime.registry[IMAGE] = records.Image(id="sha256:new", tags=(IMAGE,), size=5)
    assert (await case.ensure(IMAGE, "Always")).id == "sha256:new"
    assert [reason for _, reason, _ in case.events.told] == ["Pulling", "Pulled"]
    assert "Image size: 5 bytes." in case.events.told[-1][2]


async def test_never_pulls_nothing() -> None:
    found = await Case().refused(ABSENT, "Never")
    assert found.reason == "ErrImageNeverPull"
    assert found.message == f'Container image "{ABSENT}" is not present with pull policy of Never'


async def test_a_name_that_is_no_name_is_invalid() -> None:
    found = await Case().refused("Not A Name")
    assert found.reason == "InvalidImageName" and "couldn't parse image name" in found.message


async def test_a_pull_that_fails_backs_off_from_ten_seconds_doubling_to_three_hundred() -> None:
    case = Case()
    delays = []
    for _ in range(7):
        assert (await case.refused(ABSENT)).reason == "ErrImagePull"
        waiting = await case.refused(ABSENT)
        assert waiting.reason == "ImagePullBackOff" and waiting.retry_after is not None
        delays.append(waiting.retry_after)
        case.clock.time += waiting.retry_after
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert case.runtime.calls.count(f"PullImage {ABSENT}") == 7


async def test_the_message_of_a_back_off_says_what_went_wrong() -> None:
    case = Case()
    await case.refused(ABSENT)
    assert "not found" in (await case.refused(ABSENT)).message
    reasons = [reason for _, reason, _ in case.events.told]
    assert reasons == ["Pulling", "Failed", "Failed", "BackOff", "Failed"]


async def test_a_pull_that_succeeds_forgets_the_failures() -> None:
    case = Case()
    await case.refused(ABSENT)
    case.clock.time += 10
    case.runtime.registry[ABSENT] = records.Image(id="sha256:there", tags=(ABSENT,))
    await case.ensure(ABSENT)
    del case.runtime.store[ABSENT], case.runtime.registry[ABSENT]
    assert (await case.refused(ABSENT)).reason == "ErrImagePull"
    assert (await case.refused(ABSENT)).retry_after == 10


async def test_reasons_of_the_runtime_are_kept() -> None:
    case = Case()
    case.runtime.fail[f"PullImage {ABSENT}"] = errors.RuntimeFault("PullImage", "SignatureValidationFailed: no")
    assert (await case.refused(ABSENT)).reason == "SignatureValidationFailed"


async def test_an_outage_of_the_runtime_is_no_failure_of_the_image() -> None:
    case = Case()
    case.runtime.images.status = down  # type: ignore[method-assign]
    with pytest.raises(errors.RuntimeUnavailable):
        await case.ensure(IMAGE)
    assert case.events.told == []


async def down(image: str) -> records.Image | None:
    raise errors.RuntimeUnavailable("ImageStatus", "connection refused")


async def test_a_pull_tries_the_logins_that_fit_the_most_specific_first() -> None:
    case = Case()
    case.known = [
        credentials.Credential(pattern="nodeagent.local", username="wide"),
        credentials.Credential(pattern="nodeagent.local/absent", username="narrow"),
        credentials.Credential(pattern="example.com", username="other"),
    ]
    await case.refused(ABSENT)
    assert case.runtime.logins == ["narrow", "wide"]
    case.known, case.runtime.logins = [], []
    case.clock.time += 10
    await case.refused(ABSENT)
    assert case.runtime.logins == [""]
