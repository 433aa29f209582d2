"""The demonstration of a cluster: a Deployment, its Service, and a client pod that asks it. Pure: only the objects.

Must not know how they are created or watched.
"""

from typing import Any

from nodeagent.lab import images

Object = dict[str, Any]
NAMESPACE = "default"
NAME = "web"
CLIENT = "client"
REPLICAS = 2
LABELS = {"app": NAME}
# Each replica answers with its own name, so that the replies tell which one was reached.
SERVE = "mkdir -p /www && hostname > /www/index.html && exec httpd -f -vv -p 8080 -h /www"
# A name or an address is asked again while rules and records are on their way; each try is bounded.
ASK = """
ask() {
  for try in $(seq 1 60); do
    if reply=$(timeout 2 wget -q -O - "http://$1/"); then echo "$1 -> $reply"; return 0; fi
    sleep 0.1
  done
  echo "$1 -> no answer"; return 1
}
for each in 1 2 3; do ask "$ADDRESS" || exit 1; done
for each in 1 2 3; do ask web || exit 1; done
ask web.default.svc.cluster.local || exit 1
"""


def deployment() -> Object:
    """Two replicas of a web server."""
    container = {
        "name": NAME,
        "image": images.BUSYBOX,
        "command": ["sh", "-c", SERVE],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def service() -> Object:
    """Port 80 of one address and one name for the replicas."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {"selector": LABELS, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


def client(address: str) -> Object:
    """A pod that asks the Service by its address and by its name, and ends."""
    container = {
        "name": CLIENT,
        "image": images.BUSYBOX,
        "command": ["sh", "-c", ASK],
        "env": [{"name": "ADDRESS", "value": address}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CLIENT, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
