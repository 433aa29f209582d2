"""Admission: what is filled in or refused because of other objects. One plug-in a file; none knows HTTP."""
