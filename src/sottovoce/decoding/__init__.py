"""RNN-T searches over a small step() protocol, n-best lists and tokens: one implementation for every recognizer."""

from sottovoce.decoding.beam import Beam, BeamState, beam_search
from sottovoce.decoding.endpoint import EndpointRule, EndpointRules, Segment
from sottovoce.decoding.greedy import Greedy, GreedyState, greedy_search
from sottovoce.decoding.hotwords import ContextGraph, Phrase, read_hotwords
from sottovoce.decoding.nbest import Hypothesis, NBest
from sottovoce.decoding.protocol import BLANK, NO_HISTORY, Encoder, State, Transducer
from sottovoce.decoding.search import Method, Search, make_search

__all__ = [
    "BLANK",
    "NO_HISTORY",
    "Beam",
    "BeamState",
    "ContextGraph",
    "Encoder",
    "EndpointRule",
    "EndpointRules",
    "Greedy",
    "GreedyState",
    "Hypothesis",
    "Method",
    "NBest",
    "Phrase",
    "Search",
    "Segment",
    "State",
    "Transducer",
    "beam_search",
    "greedy_search",
    "make_search",
    "read_hotwords",
]
