"""Child processes that try a model at a safe distance: verify.py before it runs, shadow.py beside the live one.

A damaged model may crash, hang or eat the memory: the child does, and the daemon goes on.
"""
