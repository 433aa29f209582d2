"""systemd as the owner of cgroups: what a slice is called, what systemd is told of it, and how it is asked.

Names and properties are pure. `Busctl` speaks to systemd through its own client program, so nothing speaks D-Bus here.
What a pod may use is `cgroups`' decision; systemd is told the same values as the kernel's files, since it writes its
own again whenever it reloads.
"""

import logging
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

log = logging.getLogger(__name__)

Property = tuple[str, str, str]
"""Name, D-Bus type, value in busctl's words."""
INFINITY: Final = str(2**64 - 1)
QUOTA_STEP_US: Final = 10_000
"""systemd keeps a quota in whole percents of a processor."""
SECONDS: Final = 10.0
MANAGER: Final = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
ACCOUNTED: Final[tuple[Property, ...]] = (
    ("CPUAccounting", "b", "true"),
    ("MemoryAccounting", "b", "true"),
    ("TasksAccounting", "b", "true"),
    ("DefaultDependencies", "b", "false"),
)
NUMBERS: Final = {
    "cpu.weight": "CPUWeight",
    "cpu.shares": "CPUShares",
    "memory.max": "MemoryMax",
    "memory.limit_in_bytes": "MemoryLimit",
    "pids.max": "TasksMax",
}
EXISTS: Final = "org.freedesktop.systemd1.UnitExists"
LOADED: Final = "was already loaded"
MISSING: Final = "not loaded"


class Units(Protocol):
    """What is asked of systemd. Everything may be asked twice; OSError with its answer when it refuses."""

    def start(self, unit: str, properties: Sequence[Property]) -> None:
        """Makes a slice that lasts until it is stopped, or gives it these properties if it is there."""

    def stop(self, unit: str) -> None:
        """Ends the slice with everything in it."""


def path(names: Sequence[str]) -> str:
    """Where the slice of these names is: each of its parents is a slice too (a-b.slice is in a.slice)."""
    escaped = [name.replace("-", "_") for name in names]
    return "".join("/" + "-".join(escaped[: i + 1]) + ".slice" for i in range(len(escaped)))


def parents(found: str) -> list[str]:
    """The units from the outermost to the slice of this path."""
    return found.strip("/").split("/")


def properties(values: Mapping[tuple[str, str], str]) -> list[Property]:
    """A cgroup's values, (controller, file) -> text, as systemd's properties."""
    texts = {file: text for (_, file), text in values.items()}
    found = [(NUMBERS[file], "t", number(text)) for file, text in texts.items() if file in NUMBERS]
    quota, _, period = texts.get("cpu.max", "").partition(" ")
    quota = texts.get("cpu.cfs_quota_us", quota)
    period = texts.get("cpu.cfs_period_us", period)
    if quota and period:
        found += [("CPUQuotaPerSecUSec", "t", per_second(quota, period)), ("CPUQuotaPeriodUSec", "t", period)]
    return found


def number(text: str) -> str:
    """A limit in systemd's words."""
    return INFINITY if text in ("max", "-1") else text


def per_second(quota: str, period: str) -> str:
    """A quota in microseconds per second, rounded up to what systemd keeps."""
    if number(quota) == INFINITY:
        return INFINITY
    micros = int(quota) * 1_000_000 // int(period)
    return str(-(-micros // QUOTA_STEP_US) * QUOTA_STEP_US)


def start_words(unit: str, given: Sequence[Property]) -> list[str]:
    """busctl's words for a slice that is made."""
    described: Property = ("Description", "s", f"pods: {unit}")
    return [
        *call("StartTransientUnit", "ssa(sv)a(sa(sv))"),
        unit,
        "replace",
        *flat((described, *ACCOUNTED, *given)),
        "0",
    ]


def set_words(unit: str, given: Sequence[Property]) -> list[str]:
    """busctl's words for a slice that gets other values until the next boot."""
    return [*call("SetUnitProperties", "sba(sv)"), unit, "true", *flat(given)]


def stop_words(unit: str) -> list[str]:
    """busctl's words for a slice that ends."""
    return [*call("StopUnit", "ss"), unit, "replace"]


def call(method: str, signature: str) -> list[str]:
    """The head of a call of systemd's manager."""
    return ["call", *MANAGER, method, signature]


def flat(given: Sequence[Property]) -> list[str]:
    """An array of properties: how many, then each."""
    return [str(len(given)), *(word for each in given for word in each)]


class Busctl:
    """systemd through busctl, which comes with it."""

    def __init__(self, program: str = "busctl") -> None:
        self._program = program

    def start(self, unit: str, properties: Sequence[Property]) -> None:
        """As `Units` says."""
        refused = self._call(start_words(unit, properties))
        if LOADED in refused or EXISTS in refused:
            refused = self._call(set_words(unit, properties)) if properties else ""
        if refused:
            raise OSError(f"systemd does not make {unit}: {refused}")

    def stop(self, unit: str) -> None:
        """As `Units` says."""
        refused = self._call(stop_words(unit))
        if refused and MISSING not in refused:
            raise OSError(f"systemd does not stop {unit}: {refused}")

    def _call(self, words: Sequence[str]) -> str:
        """What systemd refuses, "" if nothing."""
        argv = [self._program, "--quiet", "--timeout=5", *words]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            return f"{self._program}: {e}"
        return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"
