"""Graceful node shutdown: pods end in good order before the machine does.

In: systemd's word that the machine is about to stop, by D-Bus. Out: pods told to finish, and the word that it may.
"""
