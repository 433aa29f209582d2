#!/bin/sh
# What Vagrant uploads: the provisioning itself is in the clone, where others can run it too.
exec sh /nodeagent/vagrant/provision.sh "$@"
