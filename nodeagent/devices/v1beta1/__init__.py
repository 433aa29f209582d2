"""The device plugin protocol, generated from devices.proto: see `nodeagent.cri.build`."""
