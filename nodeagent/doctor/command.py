"""`nodeagent doctor`: every check on this host, as text or JSON; `--fix` runs the safe fixes, then all again."""

import argparse
import json
import sys

from nodeagent.doctor import facts, machine_checks, network_checks
from nodeagent.doctor.verdict import Check, Finding, exit_code
from nodeagent.errors import NodeagentError
from nodeagent.install.host import Host, RealHost

CHECKS = (*machine_checks.CHECKS, *network_checks.CHECKS)
# A lab brings its own network, containerd and cgroups: only these pitfalls of its host can still meet it.
LAB = frozenset({"links", "programs", "inotify", "resources", "nft", "open-files", "proxy-variables", "ranges"})
Found = list[tuple[Check, Finding]]


def run(options: argparse.Namespace) -> int:
    """0 fine, 1 something failed, 3 only warnings."""
    host = RealHost()
    found = judge(facts.gather(host, server=options.server))
    if options.fix and mend(host, found):
        found = judge(facts.gather(host, server=options.server))
    if options.lab:
        found = [each for each in found if each[0].name in LAB]
    if options.output == "json":
        sys.stdout.write(as_json(found) + "\n")
    else:
        sys.stdout.write(as_text(found) if found or not options.lab else "")
    return exit_code([finding for _, finding in found])


def judge(seen: facts.Facts) -> Found:
    """What every check finds. PURE."""
    return [(check, finding) for check in CHECKS if (finding := check.judge(seen))]


def mend(host: Host, found: Found) -> bool:
    """Run the fixes that are safe; whether there were any."""
    safe = [finding.fix for _, finding in found if finding.safe]
    for command in safe:
        sys.stderr.write(f"--  {command}\n")
        try:
            host.run(["sh", "-c", command])
        except NodeagentError as e:
            sys.stderr.write(f"--  {e}\n")
    return bool(safe)


def as_text(found: Found) -> str:
    """For people: the worst first. PURE."""
    lines = []
    for check, finding in sorted(found, key=lambda each: each[1].level):
        lines += [f"{finding.level}: {check.name}: {finding.saw}", f"    why: {check.why}", f"    fix: {finding.fix}"]
        lines[-1] += "   (doctor --fix runs it)" if finding.safe else ""
    fine = len({check.name for check in CHECKS}) - len(found)
    return "\n".join([*lines, f"{fine} checks found nothing wrong"]) + "\n"


def as_json(found: Found) -> str:
    """For programs. PURE."""
    rows = [
        {
            "check": check.name,
            "number": check.number,
            "level": finding.level,
            "saw": finding.saw,
            "why": check.why,
            "fix": finding.fix,
            "safe": finding.safe,
        }
        for check, finding in found
    ]
    return json.dumps({"findings": rows, "checks": [check.name for check in CHECKS]}, indent=1)
