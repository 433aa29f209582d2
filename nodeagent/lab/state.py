"""What a lab has made on this host, written down before it is made, so that any later run can end it.

One JSON file in the lab's directory, replaced whole; a lock on the directory keeps two runs apart. Must not know how to
make or to remove anything.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from nodeagent.lab import errors, shapes

VERSION = 1
FILE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on the host, told from a later one with the same id by its start time (clock ticks since boot)."""

    name: str
    pid: int
    start: int


@dataclass(slots=True, kw_only=True)
class Record:
    """The lab's own account of itself.

    `processes` holds the underlay's keeper, slirp4netns and the first process of each machine that is not `killed`;
    `cuts` the pairs of machines whose wire is cut.
    """

    name: str
    cgroup: str
    port: int = 0
    ready: bool = False
    nodes: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    cuts: list[list[str]] = field(default_factory=list)
    underlay: str = shapes.ONE_LINK

    def process(self, name: str) -> Process | None:
        """The recorded process of this name."""
        return next((process for process in self.processes if process.name == name), None)


def save(directory: Path, record: Record) -> None:
    """Replace the state file."""
    path = directory / FILE
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"version": VERSION, **asdict(record)}, indent=1) + "\n")
    os.replace(fresh, path)


def load(directory: Path) -> Record | None:
    """The record in this directory, or None when no lab was made in it.

    Raises LabError on a file of another version.
    """
    try:
        document = json.loads((directory / FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise errors.LabError(
            f"{directory / FILE} cannot be read: {error}", hint="nodeagent lab down (in a clone: ./dev down)"
        ) from error
    if document.pop("version", None) != VERSION:
        raise errors.LabError(
            f"{directory / FILE} was written by another version", hint="nodeagent lab down (in a clone: ./dev down)"
        )
    document["processes"] = [Process(**entry) for entry in document["processes"]]
    return Record(**document)


@contextlib.contextmanager
def changing(directory: Path, record: Record) -> Iterator[Record]:
    """Hold the directory, bring `record` up to date, and write down what the body made of it, even when it failed."""
    with locked(directory):
        current = load(directory)
        if current is None:
            raise errors.NotRunning(f"the lab in {directory} is gone")
        for each in fields(current):
            setattr(record, each.name, getattr(current, each.name))
        try:
            yield record
        finally:
            save(directory, record)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process alone; it is made if it is not there. Raises LabError when another run holds
    it.

    The lock is on the directory itself, so nothing remains of it when the directory is removed.
    """
    while True:
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise errors.LabError(f"another run is at work in {directory}", hint="wait for it to end") from error
        if _is_still(directory, fd):
            break
        os.close(fd)
    try:
        yield
    finally:
        os.close(fd)


def _is_still(directory: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(directory), os.fstat(fd))
    except FileNotFoundError:
        return False
