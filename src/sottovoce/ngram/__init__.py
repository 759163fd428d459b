"""Back-off n-gram language models: trained, read and written, and queried in batches with NumPy alone."""

from sottovoce.ngram.arpa import read_arpa, write_arpa
from sottovoce.ngram.binary import read_binary, write_binary
from sottovoce.ngram.files import frequent_words, load_ngram, read_text, read_word_list, save_ngram
from sottovoce.ngram.kneser_ney import Discounts, train_kneser_ney
from sottovoce.ngram.model import NgramModel
from sottovoce.ngram.sentences import Sentences
from sottovoce.ngram.vocabulary import BOS, EOS, UNK, Vocabulary

__all__ = [
    "BOS",
    "EOS",
    "UNK",
    "Discounts",
    "NgramModel",
    "Sentences",
    "Vocabulary",
    "frequent_words",
    "load_ngram",
    "read_arpa",
    "read_binary",
    "read_text",
    "read_word_list",
    "save_ngram",
    "train_kneser_ney",
    "write_arpa",
    "write_binary",
]
