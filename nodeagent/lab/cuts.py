"""Cut wires between machines, as rules of the bridge that joins them. Pure.

A cut drops every frame between two ports, both ways, and says nothing: as a broken cable or a dead switch does.
"""

from collections.abc import Callable, Iterable

from nodeagent.lab import errors, plan

Pair = tuple[str, str]
Change = Callable[[set[Pair]], set[Pair]]


def pair(one: str, other: str) -> Pair:
    """Two machines in one order. Raises LabError when it is one machine."""
    if one == other:
        raise errors.LabError(f"{one} cannot be cut off from itself", hint="name two machines")
    return (one, other) if one < other else (other, one)


def ruleset(cuts: Iterable[Pair]) -> str:
    """nft's text for exactly these cuts, replacing what was there."""
    found = [each for one, other in cuts for each in ((one, other), (other, one))]
    elements = ", ".join(f'"{plan.port_of(one)}" . "{plan.port_of(other)}"' for one, other in found)
    content = f"    elements = {{ {elements} }}\n" if elements else ""
    return (
        "table bridge cuts {}\ndelete table bridge cuts\n"
        "table bridge cuts {\n  set cut {\n    type ifname . ifname\n" + content + "  }\n"
        "  chain forward {\n    type filter hook forward priority 0\n    iifname . oifname @cut drop\n  }\n}\n"
    )
