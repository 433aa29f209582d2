"""One step of a connection's way through a node, as data: what was looked at, and what it said.

Each package tells the steps it owns; who joins them needs nothing else of it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """`place` names what was looked at, `found` what it said, `command` what a person would have typed.

    `onward` are the ends a connection may go on to: `address` or `address:port` (`[address]:port`). `stops` says why it
    goes no further; "" when it does.
    """

    place: str
    found: str
    command: str
    onward: tuple[str, ...] = ()
    stops: str = ""
