"""Why a lab does not come up: which services ended, and what they said last. Only reads the machines' logs."""

import re
from pathlib import Path

from nodeagent.lab import plan

ENDED = re.compile(r"^\S+ (?P<service>\S+) ended with (?P<how>.+?); starting it again")
LAST_LINES = 3


def troubles(lab: plan.Lab) -> list[str]:
    """A line for each service that ended: where, how often, how, and its last words."""
    found = []
    for machine in lab.machines:
        logs = machine.data("/var/log/nodeagent")
        for service, ends in _ends(logs / "init.log").items():
            times = "once" if len(ends) == 1 else f"{len(ends)} times"
            said = " | ".join(_last_lines(logs / f"{service}.log"))
            found.append(f"{service} on {machine.name} ended {times}, last with {ends[-1]}: {said}")
    return found


def _ends(log: Path) -> dict[str, list[str]]:
    ends: dict[str, list[str]] = {}
    for line in _lines(log):
        if match := ENDED.match(line):
            ends.setdefault(match["service"], []).append(match["how"])
    return ends


def _last_lines(log: Path) -> list[str]:
    return [line.strip() for line in _lines(log) if line.strip()][-LAST_LINES:]


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()
    except OSError:
        return []
