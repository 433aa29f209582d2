"""What tests do with a lab: keep one, make pods and Services on it, try connections, tell why one failed.

Plain calls that block, usable in any test and without pytest; `nodeagent.lab.plugin` hands them out as fixtures. Must
not know pytest.
"""
