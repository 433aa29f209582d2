"""The agent dies at each effect of a pod's life in turn; another goes on with what it finds."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID
from nodeagent_node import Node, eventually, exiting, sleeping

from kube import scheme
from nodeagent.pods import observe, pool
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.mortal import Moment, Mortal
from tests.fakes.runtime import FakeRuntime

STRIPES = 8
"""The effects are shared out over so many tests, which may run side by side."""
NAMES = ("prepare", "beside", "main")
POD: dict[str, Any] = {
    "initContainers": [exiting(0, "prepare"), sleeping("beside", restartPolicy="Always")],
    "volumes": [{"name": "own", "emptyDir": {}}, {"name": "given", "configMap": {"name": "given"}}],
}
MAIN = sleeping(
    volumeMounts=[{"name": "own", "mountPath": "/own"}, {"name": "given", "mountPath": "/given"}],
    lifecycle={"preStop": {"exec": {"command": ["bye"]}}},
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what happens makes the agent look, so that each life has the same effects."""
    monkeypatch.setattr(observe, "LIST_PERIOD", 60.0)
    monkeypatch.setattr(pool, "HOUSEKEEPING", 60.0)


class World:
    """What outlives an agent: the machine, its runtime, and the API."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.server, self.runtime = folder, FakeApiServer(), FakeRuntime(now=time.time_ns)
        self.runtime.with_events = True
        self.server.put(scheme.CONFIG_MAPS, {"metadata": {"name": "given", "namespace": "default"}, "data": {"a": "b"}})
        self.deleted = False

    def node(self, life: Mortal | None = None) -> Node:
        return Node(self.folder, self.server, self.runtime, life=life)

    def gone(self) -> bool:
        return self.server.find(scheme.PODS, "web", namespace="default") is None

    async def live(self, node: Node, life: Mortal) -> None:
        """From where the pod is to its end, or to the agent's."""
        async with node.alive():
            if not self.deleted:
                await eventually(lambda: life.dead or node.ready())
                if life.dead:
                    return
                self.check_ready()
                node.delete()
                self.deleted = True
            await eventually(lambda: life.dead or (self.gone() and not node.pool.workers))

    def check_ready(self) -> None:
        """One sandbox, one container of each name, each started once."""
        states = sorted((c.name, c.state) for c in self.runtime.made.values())
        assert states == [("beside", "running"), ("main", "running"), ("prepare", "exited")]
        assert len(self.runtime.boxes) == 1 and self.runtime.calls.count("RunPodSandbox") == 1
        assert self.runtime.calls.count("StartContainer") == len(NAMES)
        statuses = self.node().status()
        every = [*statuses["initContainerStatuses"], *statuses["containerStatuses"]]
        assert [entry["restartCount"] for entry in every] == [0, 0, 0]

    def check_gone(self) -> None:
        """Nothing of the pod is left anywhere, and nothing of it was started again."""
        assert self.gone() and self.runtime.boxes == {} and self.runtime.made == {}
        assert not (self.folder / "k" / "pods" / UID).exists()
        assert not [path for path in (self.folder / "l").rglob("*") if path.is_symlink() or path.suffix == ".log"]
        assert not list((self.folder / "cgroup").rglob(f"*{UID}*"))
        assert self.runtime.calls.count("StartContainer") == len(NAMES)
        assert self.runtime.calls.count("ExecSync bye") >= 1


async def lived(folder: Path, life: Mortal) -> World:
    """A pod's whole life, the first agent of which ends when `life` does."""
    world = World(folder)
    first = world.node(life)
    first.put(MAIN, **POD)
    await world.live(first, life)
    if life.dead:
        await world.live(world.node(), Mortal())
    world.check_gone()
    return world


async def test_a_life_without_death_has_the_effects_that_are_died_at(tmp_path: Path) -> None:
    life = Mortal()
    await lived(tmp_path / "w", life)
    expected = {"sandboxes.run", "containers.create", "containers.start", "containers.stop", "sandboxes.remove"}
    assert expected | {"volumes.mount", "volumes.unmount", "cgroups.create", "files.remove_pod", "API.request"} <= set(
        life.effects
    )


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("stripe", range(STRIPES))
async def test_an_agent_that_died_at_any_effect_is_gone_on_from(tmp_path: Path, moment: Moment, stripe: int) -> None:
    for at in itertools.count(1 + stripe, STRIPES):
        life = Mortal(at=at, moment=moment)
        try:
            await lived(tmp_path / str(at), life)
        except BaseException as e:
            e.add_note(f"the agent died {moment} effect {at} of {life.effects}")
            raise
        if not life.dead:
            break
    assert at > STRIPES, "a life has more effects than that"
