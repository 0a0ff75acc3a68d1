"""What a stream of observations looks like, and whether it still does: pure, integers and numpy.

Nothing here knows a clock or a file; what is promised is in docs/drift.md.
"""
