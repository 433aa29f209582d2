#!/bin/sh
# Proves the cluster: pods on every machine reach those on every other, a Service by address and by name.
# Runs inside the server's machine, so that it works from any host:  vagrant ssh server -c "sudo /nodeagent/vagrant/smoke.sh"
set -eu
exec nodeagent smoke --kubeconfig /etc/nodeagent/admin.kubeconfig "$@"
