"""Evidence: word errors with intervals, significance, and the verdict of non-inferiority.

The test itself is ``evaluation.mapsswe.mapsswe``; exported here, it would hide its module.
"""

from sottovoce.evaluation.bootstrap import (
    RelativeDifference,
    cluster_ids,
    relative_difference,
    relative_perplexity_difference,
    relative_wer_difference,
    wer_interval,
)
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses, write_hypotheses
from sottovoce.evaluation.mapsswe import Mapsswe, matched_pairs, segment_errors
from sottovoce.evaluation.noninferiority import PERPLEXITY_MARGIN, Verdict, holm, verdict, wer_margin
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors, align, count_errors, score, total

__all__ = [
    "PERPLEXITY_MARGIN",
    "Hypothesis",
    "Mapsswe",
    "RelativeDifference",
    "ScoredUtterance",
    "Verdict",
    "WordErrors",
    "align",
    "cluster_ids",
    "count_errors",
    "holm",
    "matched_pairs",
    "read_hypotheses",
    "relative_difference",
    "relative_perplexity_difference",
    "relative_wer_difference",
    "score",
    "segment_errors",
    "total",
    "verdict",
    "wer_interval",
    "wer_margin",
    "write_hypotheses",
]
