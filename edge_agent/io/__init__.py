"""Everything outside, one thing per file. Foreign shapes become our records here and travel no further in."""
