"""What an iptables proxy of another kind left is removed, whatever its jumps look like."""

from proxy.backends import iptables

LEFT = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
:OTHERS - [0:0]
[3:4] -A INPUT -s 192.0.2.1/32 -j OTHERS
[0:0] -A FORWARD -m conntrack --ctstate NEW -m comment --comment "some other words" -j KUBE-SERVICES
[0:0] -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
[0:0] -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


def test_every_jump_into_our_chains_goes_before_they_do_and_nobody_elses() -> None:
    script = iptables.removal(iptables.held_chains(LEFT)).splitlines()
    assert [line for line in script if line.startswith("-D")] == [
        '-D FORWARD -m conntrack --ctstate NEW -m comment --comment "some other words" -j KUBE-SERVICES',
        '-D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    ]
    assert [line for line in script if line.startswith("-X")] == ["-X KUBE-FORWARD", "-X KUBE-SERVICES"]
    assert "OTHERS" not in "\n".join(script)
