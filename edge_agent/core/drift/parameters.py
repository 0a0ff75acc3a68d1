"""Every number of the drift detectors, with where it comes from. Nothing here is for a user to set.

[V] Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2nd edition 2022, chapter 8 (conformal test
martingales, also for procedures of Shiryaev-Roberts form). [E] Shin, Ramdas, Rinaldo, E-detectors: a nonparametric
framework for sequential change detection, arXiv 2203.03532. [M] measured on streams of digits and sensors with known
drift, docs/drift.md.
"""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS

# Blocks. What is exchangeable is not the row but the block; [M] for all of these.
HEAD_SHARE: Final = 0.1  # of a block is passed over, so that it depends less on the block before
BLOCK_MOST_NS: Final = 7200 * SECOND_NS  # doubling ends here; beyond it only a whole day
DOUBLINGS_MOST: Final = 4
# Lag-1 autocorrelation of block scores, or as much as that of so many independent ones may well have: 0.2 for all
# features together in the notes' experiments, where the largest decided; here each feature has a length of its own.
CORRELATION_MOST: Final = 0.1
CORRELATION_ERRORS: Final = 2.0  # standard errors, 1 / sqrt(blocks) each (Bartlett 1946)
BLOCKS_LEAST: Final = 20  # in a commissioning, for a length of block to be considered
ROWS_LEAST: Final = 8  # in the median block: fewer make a mean of ranks coarser than its bins
FULL_ENOUGH: Final = 0.5  # of the usual rows: with fewer a block varies more than those it is compared with
USUAL_RATE: Final = 1 / 8  # how fast the usual number of rows follows a new frame rate

# Commissioning.
FIRST_PART: Final = 1 / 7  # of it: in which edges are learnt
EDGE_ROWS: Final = 512  # kept of that part, at random: deciles to about +-1.3 %
CROWDED: Final = 0.3  # more in one bin of the reference than in the fullest of own quantiles: own edges then
BLOCKS_KEPT: Final = 14 * 96  # scores of each length of block: two weeks of quarter hours
CONTEXTS: Final = 8  # parts of a day, three hours each
UNSYNCED_MOST: Final = 0.05  # share of blocks without wall time, above which there are no contexts
DAYS_LEAST: Final = 3  # whole days, for days to be compared
# Analysis of variance by day and by weekday, a third for each of the three scores; the least of the features must pass
# it, the k-th k times as much (step-up).
DAY_EFFECT_P: Final = 1e-3
PRIOR_ROWS: Final = 4  # of the whole day's shares, added to those of each context
SHARE_LEAST: Final = 2e-4  # of a bin: a bet on a bin that was empty stays finite

# Conformal test martingale. Bets of [V] 8.2: 1 + e (p - 1/2), and k p^(k-1) on small and on large p.
SLOPES: Final = (-1.9, -1.0, 1.0, 1.9)
POWERS: Final = (0.35, 0.6)
P_LEAST: Final = 1e-6  # keeps a power bet finite
SCORES: Final = 3  # mean and dispersion of the ranks, square root of the missing share
SCORE_BINS: Final = 128
SCORE_STEP: Final = 2.0**-15  # far below what a block's score varies by; fits into 16 bits
SCORE_SPREADS: Final = 8  # standard deviations either side of the mean that the bins reach
SCORE_REACH_LEAST: Final = 1 / 32  # of that half, where the scores hardly vary
# Mean time to a false alarm: the threshold of a Shiryaev-Roberts procedure, in blocks, is that time.
INFO_DAYS: Final = 30
WARNING_DAYS: Final = 365

# E-detector: bets of [E] section 4 on the share of each bin, discounted by what the tolerance allows. [M]
STAKES: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
HALF_LIVES: Final = (2.0, 8.0, 32.0)  # blocks, of the mean deviation that is bet on
SHOWN_HALF_LIFE: Final = 1  # index: the one whose deviation is reported as the effect size
SIGN_STAKE: Final = 0.9
# Total variation; a reference of 2000 rows is itself off by about 0.03. Where its own error is larger, that counts.
TOLERANCE_REFERENCE: Final = 0.05
TOLERANCE_BASELINE: Final = 0.1
# While the hours of a day are not yet known, only what most rows of an hour can't share with the reference counts: an
# hour of night is half a total variation away from a set of as many pictures by day as by night.
TOLERANCE_UNLEARNT: Final = 0.5
CRITICAL_DAYS: Final = 365  # of the two e-detectors together

# Back to ok: mean p-value of each score over a day within this of 1/2; 96 blocks without drift stay within 0.1 [M].
P_RECOVERED: Final = 0.15
BLOCKS_RECOVERED: Final = 8  # at least, where a day has fewer blocks

PENDING_ROWS: Final = 256  # are taken in together
