"""What every Runtime promises, on the fake and on a containerd of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from nodeagent import errors
from nodeagent.cri import client, labels, records, runtime
from nodeagent.cri.v1 import cri_pb2 as cri
from tests.contract import throwaway_containerd
from tests.fakes import runtime as fake

BUSYBOX = fake.BUSYBOX


@pytest.fixture(scope="module")
def containerd(programs: None) -> Iterator[throwaway_containerd.Containerd]:
    with throwaway_containerd.running() as found:
        yield found


@pytest.fixture(params=["fake", "containerd"])
async def it(request: pytest.FixtureRequest) -> AsyncIterator[runtime.Runtime]:
    if request.param == "fake":
        yield fake.FakeRuntime()
        return
    found = client.GrpcRuntime(request.getfixturevalue("containerd").endpoint)
    yield found
    for sandbox in await found.sandboxes.list():
        await found.sandboxes.stop(sandbox.id)
        await found.sandboxes.remove(sandbox.id)
    await found.close()


def sandbox_config(request: pytest.FixtureRequest, *, uid: str, attempt: int = 0) -> cri.PodSandboxConfig:
    real = "containerd" in request.node.name
    root = request.getfixturevalue("containerd") if real else None
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=f"pod-{uid}", uid=uid, namespace="default", attempt=attempt),
        labels={labels.POD_UID: uid, labels.POD_NAME: f"pod-{uid}", labels.POD_NAMESPACE: "default"},
        log_directory=str(root.root / "logs" / uid) if root else "",
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=root.cgroup if root else "",
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=cri.NamespaceOption(network=cri.NODE)),
        ),
    )


def container_config(uid: str, *command: str, name: str = "main", attempt: int = 0) -> cri.ContainerConfig:
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name, attempt=attempt),
        image=cri.ImageSpec(image=BUSYBOX),
        command=command,
        labels={labels.POD_UID: uid, labels.CONTAINER_NAME: name},
        annotations={labels.RESTART_COUNT: str(attempt), labels.HASH: "abc"},
        log_path=f"{name}-{attempt}.log",
        linux=cri.LinuxContainerConfig(
            security_context=cri.LinuxContainerSecurityContext(namespace_options=cri.NamespaceOption(network=cri.NODE))
        ),
    )


async def started(it: runtime.Runtime, request: pytest.FixtureRequest, uid: str, *command: str) -> tuple[str, str]:
    box = sandbox_config(request, uid=uid)
    sandbox_id = await it.sandboxes.run(box)
    container_id = await it.containers.create(sandbox_id, container_config(uid, *command), sandbox=box)
    await it.containers.start(container_id)
    return sandbox_id, container_id


async def ended(it: runtime.Runtime, container_id: str) -> None:
    async with asyncio.timeout(20):
        while (await it.containers.status(container_id)).state == "running":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_it_says_who_it_is_and_that_it_is_ready(it: runtime.Runtime) -> None:
    info = await it.info()
    assert info.name and info.version and info.ready


async def test_a_sandbox_is_found_by_its_labels_with_what_it_was_made_of(
    it: runtime.Runtime, request: pytest.FixtureRequest
) -> None:
    sandbox_id = await it.sandboxes.run(sandbox_config(request, uid="u1", attempt=2))
    (found,) = await it.sandboxes.list(labels={labels.POD_UID: "u1"})
    assert (found.id, found.uid, found.name, found.attempt, found.ready) == (sandbox_id, "u1", "pod-u1", 2, True)
    status = await it.sandboxes.status(sandbox_id)
    assert status.host_network and status.ips == () and status.created_at > 0
    assert await it.sandboxes.list(labels={labels.POD_UID: "other"}) == []


async def test_a_container_runs_and_tells_since_when(it: runtime.Runtime, request: pytest.FixtureRequest) -> None:
    sandbox_id, container_id = await started(it, request, "u2", "sleep", "1000")
    (listed,) = await it.containers.list(labels={labels.POD_UID: "u2"})
    assert (listed.id, listed.sandbox_id, listed.state) == (container_id, sandbox_id, "running")
    status = await it.containers.status(container_id)
    assert status.started_at > 0 and status.finished_at == 0
    assert status.annotations[labels.HASH] == "abc" and status.image == BUSYBOX


async def test_a_created_container_has_not_started(it: runtime.Runtime, request: pytest.FixtureRequest) -> None:
    box = sandbox_config(request, uid="u3")
    sandbox_id = await it.sandboxes.run(box)
    container_id = await it.containers.create(sandbox_id, container_config("u3", "sleep", "1"), sandbox=box)
    assert (await it.containers.status(container_id)).state == "created"


async def test_an_exit_code_is_kept(it: runtime.Runtime, request: pytest.FixtureRequest) -> None:
    _, container_id = await started(it, request, "u4", "sh", "-c", "exit 3")
    await ended(it, container_id)
    status = await it.containers.status(container_id)
    assert (status.state, status.exit_code, status.reason) == ("exited", 3, "Error")
    # No order between the two: containerd notes the start when its call returns, and the process may be gone by then.
    assert status.finished_at > 0
    assert status.started_at > 0


async def test_a_command_that_is_not_there_fails_the_start_and_leaves_an_ended_container(
    it: runtime.Runtime, request: pytest.FixtureRequest
) -> None:
    box = sandbox_config(request, uid="u5")
    sandbox_id = await it.sandboxes.run(box)
    container_id = await it.containers.create(sandbox_id, container_config("u5", "/nonesuch"), sandbox=box)
    with pytest.raises(errors.RuntimeFault, match="nonesuch"):
        await it.containers.start(container_id)
    status = await it.containers.status(container_id)
    assert (status.state, status.exit_code, status.reason) == ("exited", 128, "StartError")


async def test_stopping_kills_after_the_grace_and_succeeds_when_repeated(
    it: runtime.Runtime, request: pytest.FixtureRequest
) -> None:
    _, container_id = await started(it, request, "u6", "sleep", "1000")
    await it.containers.stop(container_id, grace=0)
    assert (await it.containers.status(container_id)).state == "exited"
    await it.containers.stop(container_id, grace=0)


async def test_what_is_not_there_is_already_stopped_and_removed(it: runtime.Runtime) -> None:
    await it.containers.stop("absent", grace=0)
    await it.containers.remove("absent")
    await it.sandboxes.stop("absent")
    await it.sandboxes.remove("absent")


async def test_asking_for_what_is_not_there_says_so(it: runtime.Runtime) -> None:
    with pytest.raises(errors.RuntimeNotFound):
        await it.containers.status("absent")
    with pytest.raises(errors.RuntimeNotFound):
        await it.sandboxes.status("absent")


async def test_stopping_a_sandbox_ends_its_containers_and_removing_it_removes_them(
    it: runtime.Runtime, request: pytest.FixtureRequest
) -> None:
    sandbox_id, container_id = await started(it, request, "u7", "sleep", "1000")
    await it.sandboxes.stop(sandbox_id)
    await ended(it, container_id)
    assert not (await it.sandboxes.status(sandbox_id)).ready
    await it.sandboxes.remove(sandbox_id)
    assert await it.sandboxes.list(labels={labels.POD_UID: "u7"}) == []
    assert await it.containers.list(labels={labels.POD_UID: "u7"}) == []


async def test_a_command_runs_in_a_container(it: runtime.Runtime, request: pytest.FixtureRequest) -> None:
    _, container_id = await started(it, request, "u8", "sleep", "1000")
    assert (await it.execs.run(container_id, ["echo", "hello"], timeout=5)).stdout == b"hello\n"
    assert (await it.execs.run(container_id, ["false"], timeout=5)).exit_code == 1


async def test_streams_have_addresses(it: runtime.Runtime, request: pytest.FixtureRequest) -> None:
    sandbox_id, container_id = await started(it, request, "u9", "sleep", "1000")
    url = await it.execs.exec_url(container_id, ["sh"], tty=False, stdin=True, stdout=True, stderr=True)
    assert url.startswith("http://127.0.0.1:")
    assert await it.execs.attach_url(container_id, tty=False, stdin=False, stdout=True, stderr=True) != url
    assert (await it.execs.port_forward_url(sandbox_id, [80])).startswith("http://127.0.0.1:")


async def test_an_image_is_found_by_name_and_by_id(it: runtime.Runtime) -> None:
    by_name = await it.images.status(BUSYBOX)
    assert by_name is not None and BUSYBOX in by_name.tags and by_name.size > 0
    assert await it.images.status(by_name.id) == by_name
    assert by_name in await it.images.list()
    assert await it.images.status("nodeagent.local/absent:1") is None


async def test_an_image_that_no_registry_has_cannot_be_pulled(it: runtime.Runtime) -> None:
    with pytest.raises(errors.RuntimeFault):
        await it.images.pull("127.0.0.1:1/absent:1")


def tells_events(info: records.RuntimeInfo) -> bool:
    """containerd tells what happens to containers since 1.7."""
    numbers = [int(text) for text in info.version.lstrip("v").split("~")[0].split(".")[:2]]
    return info.name == "containerd" and numbers >= [1, 7]


async def test_the_end_of_a_container_is_told_or_said_to_be_untold(
    it: runtime.Runtime, request: pytest.FixtureRequest
) -> None:
    if not tells_events(await it.info()):
        with pytest.raises(errors.RuntimeUnimplemented):
            async with asyncio.timeout(1):
                await anext(aiter(it.events()))
        if not isinstance(it, fake.FakeRuntime):
            return
        it.with_events = True
    heard: asyncio.Queue[records.RuntimeEvent] = asyncio.Queue()

    async def listen() -> None:
        async for event in it.events():
            heard.put_nowait(event)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        await asyncio.sleep(0.1)
        _, container_id = await started(it, request, "told", "sh", "-c", "exit 3")
        while (event := await heard.get()).container_id != container_id:
            pass
        assert event.pod_uid == "told"
        await ended(it, container_id)
        listening.cancel()


async def test_a_containerd_without_cri_is_told_from_one_that_is_down(programs: None) -> None:
    with throwaway_containerd.running(disabled="io.containerd.grpc.v1.cri", with_images=False) as found:
        there = client.GrpcRuntime(found.endpoint)
        with pytest.raises(errors.CriDisabled, match="unknown service"):
            await there.info()
        await there.close()
    gone = client.GrpcRuntime(found.endpoint)
    with pytest.raises(errors.RuntimeUnavailable):
        await gone.info()
    await gone.close()
