"""Bringing a lab up and down: the order of the steps, and nothing of how each is done.

`up` leaves either a running lab or nothing; `down` ends whatever is left of one. Must not know how progress is
shown, nor what is run on the cluster.
"""

import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from nodeagent.lab import (
    containerd,
    credentials,
    documents,
    errors,
    images,
    leftovers,
    machine,
    phases,
    plan,
    preflight,
    shapes,
    state,
    underlay,
)
from nodeagent.lab.plan import Machine

SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may choose.

    `port` 0 takes any free one, None the usual one or, where that is taken, any.
    `services` limits what runs, for tests of the machines alone.
    """

    directory: Path
    nodes: int = 1
    port: int | None = plan.API_PORT
    outside: bool = True
    services: frozenset[str] | None = None
    underlay: str = shapes.ONE_LINK

    @property
    def name(self) -> str:
        """The lab's name among the labs of this host, one for each directory."""
        return name_of(self.directory)


def name_of(directory: Path) -> str:
    """Two labs in two directories never share a cgroup."""
    return "lab-" + hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A lab that is up: the plan it follows and the record of what was made."""

    plan: plan.Lab
    record: state.Record

    def machine(self, name: str) -> Machine:
        """The machine of this name. Raises LabError when there is none."""
        for each in self.plan.machines:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.plan.machines)
        raise errors.LabError(f"no machine {name!r} in this lab; it has {known}")

    def first(self, name: str) -> state.Process:
        """The first process of this machine. Raises LabError when there is no such machine, or it was killed."""
        self.machine(name)
        found = self.record.process(name)
        if found is None:
            raise errors.LabError(f"machine {name} was killed", hint=f"nodeagent lab start {name}")
        return found

    @property
    def keeper(self) -> state.Process:
        """The process that keeps the network between the machines."""
        found = self.record.process(underlay.KEEPER)
        if found is None:
            raise errors.NotRunning(f"the lab in {self.plan.directory} has lost its network", hint="nodeagent lab down")
        return found


def up(options: Options, *, report: phases.Phases) -> Running:
    """Make the lab. Raises LabError, having removed all it made, when a step fails."""
    with state.locked(options.directory):
        _refuse_a_second(options)
        try:
            with report.step("check the host"):
                preflight.check(options.directory)
            with report.step("clear what an earlier lab left"):
                clear(options.directory)
            return _make(options, report=report)
        except BaseException:
            clear(options.directory, patience=0)
            options.directory.rmdir()
            raise


def _refuse_a_second(options: Options) -> None:
    record = state.load(options.directory)
    if record is not None and record.ready and is_up(record):
        raise errors.LabError(
            f"the lab in {options.directory} is already up", hint=f"nodeagent lab down --directory {options.directory}"
        )


def _make(options: Options, *, report: phases.Phases) -> Running:
    record = state.Record(name=options.name, cgroup=f"{plan.CGROUP_PARENT}/{options.name}", underlay=options.underlay)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(loopback(_port(options.port)))
        record.port = api.getsockname()[1]
        program, version = containerd.find()
        host = plan.Host(python=sys.executable, containerd=program, source=SOURCE, visible=visible_paths())
        lab = _limited(_plan(options, host=host, api_fd=api.fileno()), options.services)
        record.nodes = [node.name for node in lab.nodes]
        state.save(options.directory, record)
        with report.step("write keys and configuration"):
            _write_files(lab, host=host, version=version, port=record.port, outside=options.outside)
        with report.step("start the machines") as step:
            _start_machines(lab, host=host, record=record, outside=options.outside)
            step.detail = ", ".join(each.name for each in lab.machines)
    running = Running(plan=lab, record=record)
    with report.step("put the images on the nodes"):
        archives = [path.read_bytes() for path in images.build(options.directory / "images")]
        load_images(running, archives, nodes=record.nodes)
    record.ready = True
    state.save(options.directory, record)
    return running


def _plan(options: Options, *, host: plan.Host, api_fd: int) -> plan.Lab:
    try:
        return plan.plan(
            options.name,
            directory=options.directory,
            nodes=options.nodes,
            host=host,
            api_fd=api_fd,
            underlay=options.underlay,
        )
    except ValueError as error:
        raise errors.LabError(str(error)) from error


def _limited(lab: plan.Lab, services: frozenset[str] | None) -> plan.Lab:
    return lab if services is None else plan.limited(lab, services=services)


def _port(wanted: int | None) -> int:
    """The port asked for; without a wish the usual one where it is free, else 0: any."""
    if wanted is not None:
        return wanted
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", plan.API_PORT))
        except OSError:
            return 0
    return plan.API_PORT


@contextlib.contextmanager
def loopback(port: int) -> Iterator[socket.socket]:
    """The API's socket on the host. The server inside inherits it; ours is closed when it has."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError as error:
            raise errors.LabError(
                f"port {port} on 127.0.0.1 is taken: {os.strerror(error.errno or 0)}", hint="choose one with --port"
            ) from error
        bound.listen(512)
        yield bound


def visible_paths() -> tuple[Path, ...]:
    """Folders that must look the same in every machine: the source, and where the machine would not see it by itself
    (not on the root file system, or in a folder the machine has its own of) Python and all it imports from.
    """
    imported = [Path(folder) for folder in sys.path if os.path.isdir(folder)]
    wanted = [SOURCE, Path(sys.prefix), Path(sys.base_prefix), *imported]
    root = os.stat("/").st_dev
    own = [Path(folder) for folder in ("/tmp", "/run", *plan.DATA_FOLDERS)]
    found = [p for p in wanted if p == SOURCE or p.stat().st_dev != root or any(each in p.parents for each in own)]
    return tuple(path for path in dict.fromkeys(found) if not any(other in path.parents for other in found))


def _write_files(lab: plan.Lab, *, host: plan.Host, version: tuple[int, int], port: int, outside: bool) -> None:
    ca = credentials.ensure(lab)
    credentials.write_admin(lab, ca, port=port)
    config = containerd.config(
        version, sandbox_image=images.PAUSE, restrict_oom_score=not containerd.read_may_lower_oom_score()
    )
    resolvers = underlay.resolvers(outside=outside)
    hierarchies = machine.hierarchies()
    for each in lab.machines:
        files = documents.etc_files(each, resolvers=resolvers)
        if each is lab.server:
            files |= _yaml(plan.ETC, documents.server(lab, api_port=port))
        else:
            files |= _yaml(plan.ETC, documents.node(each))
            files |= _yaml(plan.ETC + "/dns", documents.dns(each, resolvers=resolvers))
            files[containerd.CONFIG] = config.encode()
        machine.prepare(each, spec=plan.boot_spec(each, host=host, controllers=hierarchies), files=files)
        if each is not lab.server:
            credentials.write_node(each, ca, server=f"https://{lab.server.ip}:{plan.API_PORT}")


def _yaml(folder: str, found: dict[str, documents.Document]) -> dict[str, bytes]:
    return {f"{folder}/{name}": yaml.safe_dump(dict(text), sort_keys=False).encode() for name, text in found.items()}


def _start_machines(lab: plan.Lab, *, host: plan.Host, record: state.Record, outside: bool) -> None:
    cgroups = [hierarchy / lab.cgroup.strip("/") / "underlay" for hierarchy in machine.hierarchies()]
    keeper = underlay.start(lab.directory, cgroups=cgroups, shape=record.underlay)
    _note(lab, record, keeper)
    if outside and (way_out := underlay.open_outside(keeper, lab.directory, cgroups=cgroups)) is not None:
        _note(lab, record, way_out)
    starting = []
    for each in lab.machines:
        starting.append(machine.launch(each, host=host))
        _note(lab, record, starting[-1].first)
    underlay.configure(keeper, "".join(plan.cable_batch(s.machine, s.first.pid) for s in starting))
    for one in starting:
        machine.finish(one)


def _note(lab: plan.Lab, record: state.Record, process: state.Process) -> None:
    record.processes.append(process)
    state.save(lab.directory, record)


def load_images(running: Running, archives: Sequence[bytes], *, nodes: Sequence[str]) -> None:
    """Put the images of these archives on these nodes, on all at once."""

    def load(node: str) -> None:
        first = running.first(node)
        containerd.wait_until_up(first)
        for archive in archives:
            machine.run(first, [*images.CTR, "import", "-"], stdin=archive, seconds=120)

    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        for done in [pool.submit(load, node) for node in nodes]:
            done.result()


def running(directory: Path) -> Running:
    """The lab that runs in this directory. Raises NotRunning when there is none."""
    record = state.load(directory) if directory.is_dir() else None
    if record is None or not is_up(record):
        raise errors.NotRunning(
            f"no lab is up in {directory}", hint="nodeagent lab up --detach (in a clone: ./dev up --detach)"
        )
    host = plan.Host(python=sys.executable, containerd="containerd", source=SOURCE)
    planned = plan.plan(record.name, directory=directory, nodes=len(record.nodes), host=host, underlay=record.underlay)
    return Running(plan=planned, record=record)


def is_up(record: state.Record) -> bool:
    """Whether every process the lab cannot be without is still there; machines killed on purpose may be down."""
    needed = [process for process in record.processes if process.name != underlay.OUTSIDE]
    complete = len(needed) + len(record.killed) == len(record.nodes) + 2  # the server, and the underlay's keeper
    return complete and all(machine.alive(process) for process in needed)


def down(directory: Path) -> bool:
    """Remove the lab and its directory. False when there was nothing to remove."""
    if not directory.is_dir() and not leftovers.trees(f"{plan.CGROUP_PARENT}/{name_of(directory)}"):
        return False
    with state.locked(directory):
        clear(directory)
        directory.rmdir()
    return True


def clear(directory: Path, *, patience: float = leftovers.STOP_SECONDS) -> None:
    """End and delete everything a lab of this directory or this name has made; the caller holds the lock on the
    directory.
    """
    record = None
    with contextlib.suppress(errors.LabError):
        record = state.load(directory)
    name = name_of(directory)
    record = record or state.Record(name=name, cgroup=f"{plan.CGROUP_PARENT}/{name}")
    leftovers.end_processes(record, patience=patience)
    leftovers.remove_cgroups(record.cgroup)
    leftovers.remove_files(directory)
