"""Evidence: word errors and perplexities with intervals, significance, and the verdict of non-inferiority.

The test itself is ``evaluation.mapsswe.mapsswe``, and a stream's perplexity ``evaluation.perplexity.perplexity``;
exported here, they would hide their modules.
"""

from sottovoce.evaluation.bootstrap import (
    RelativeDifference,
    ShareKept,
    cluster_ids,
    perplexity_interval,
    relative_difference,
    relative_perplexity_difference,
    relative_wer_difference,
    share_of_gain_kept,
    wer_interval,
)
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses, write_hypotheses
from sottovoce.evaluation.mapsswe import Mapsswe, matched_pairs, segment_errors
from sottovoce.evaluation.noninferiority import PERPLEXITY_MARGIN, Verdict, holm, verdict, wer_margin
from sottovoce.evaluation.perplexity import Mixture, mix, mixture_weights, segment_losses
from sottovoce.evaluation.scores import (
    Perplexity,
    SentenceScore,
    compare_perplexity,
    mix_scores,
    read_scores,
    summarize,
    write_scores,
)
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors, align, count_errors, score, total

__all__ = [
    "PERPLEXITY_MARGIN",
    "Hypothesis",
    "Mapsswe",
    "Mixture",
    "Perplexity",
    "RelativeDifference",
    "ScoredUtterance",
    "SentenceScore",
    "ShareKept",
    "Verdict",
    "WordErrors",
    "align",
    "cluster_ids",
    "compare_perplexity",
    "count_errors",
    "holm",
    "matched_pairs",
    "mix",
    "mix_scores",
    "mixture_weights",
    "perplexity_interval",
    "read_hypotheses",
    "read_scores",
    "relative_difference",
    "relative_perplexity_difference",
    "relative_wer_difference",
    "score",
    "segment_errors",
    "segment_losses",
    "share_of_gain_kept",
    "summarize",
    "total",
    "verdict",
    "wer_interval",
    "wer_margin",
    "write_hypotheses",
    "write_scores",
]
