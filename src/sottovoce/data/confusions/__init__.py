"""A confusion channel: n-best lists and lattices from text, as a recognizer that hears badly would give them.

Words become phonemes (espeak-ng), phonemes become noisy observations (``channel``), and a decoder finds the words that
can have been said, with their log-likelihoods under the same channel (``decoder``). So scores are what they claim to
be: the channel's, not made up beside it.
"""
