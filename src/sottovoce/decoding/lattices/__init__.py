"""Word lattices: HTK and Kaldi files, and what is done with lattices in a second pass."""

from sottovoce.decoding.lattices.forward_backward import Posteriors, posteriors, prune
from sottovoce.decoding.lattices.kaldi import read_kaldi_lattices, read_symbols, write_kaldi_lattices
from sottovoce.decoding.lattices.lattice import Lattice, make_lattice
from sottovoce.decoding.lattices.paths import LatticePath, best_path, nbest_paths, oracle_path, path_of, path_scores
from sottovoce.decoding.lattices.slf import read_slf, write_slf

__all__ = [
    "Lattice",
    "LatticePath",
    "Posteriors",
    "best_path",
    "make_lattice",
    "nbest_paths",
    "oracle_path",
    "path_of",
    "path_scores",
    "posteriors",
    "prune",
    "read_kaldi_lattices",
    "read_slf",
    "read_symbols",
    "write_kaldi_lattices",
    "write_slf",
]
