"""Existing corpora: one module each, one ``prepare_...`` function in it."""
