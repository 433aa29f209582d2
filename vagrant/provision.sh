#!/bin/sh
# Makes this machine a server or an agent of the cluster; run by Vagrant in every machine, again by `vagrant provision`.
#
#   provision.sh server ADDRESS STATE     STATE: a folder with ca.crt, ca.key and token, made on the host (cluster.rb)
#   provision.sh agent ADDRESS STATE SERVER
#
# The clone is where this script is; ADDRESS is this machine's in the private network, never the NAT's.
set -eu

role=$1 address=$2 state=$3
clone=$(cd "$(dirname "$0")/.." && pwd)
cd "$clone"

install_server() {
    # The CA comes from the host, so that the agents, which start at the same time, know whom to trust.
    mkdir -p /etc/nodeagent/pki
    chmod 700 /etc/nodeagent/pki
    for file in ca.crt ca.key; do
        [ -e "/etc/nodeagent/pki/$file" ] || install -m 600 "$state/$file" "/etc/nodeagent/pki/$file"
    done
    python3 -m nodeagent install server --advertise-address "$address" ${INSTALL_FLAGS:-}
    nodeagent token create --token "$(cat "$state/token")" --ttl 0 --description "Vagrant's agents" >/dev/null
}

install_agent() {
    server=$1
    # The server may still be on its way up: everything else than silence is told and ends here.
    for try in $(seq 1 120); do
        if python3 - "$server" <<'PY'
import socket, sys
host, port = sys.argv[1].removeprefix("https://").rsplit(":", 1)
try:
    socket.create_connection((host, int(port)), 3).close()
except OSError:
    sys.exit(1)
PY
        then break; fi
        sleep 5
    done
    for try in 1 2 3 4 5 6; do
        # The token is made a moment after the server answers.
        if python3 -m nodeagent install agent --server "$server" --token "$(cat "$state/token")" \
            --node-ip "$address" ${INSTALL_FLAGS:-}; then return 0; fi
        sleep 5
    done
    return 1
}

case $role in
    server) install_server ;;
    agent) install_agent "$4" ;;
    *) echo "usage: provision.sh server|agent ADDRESS STATE [SERVER]" >&2; exit 2 ;;
esac
