"""Corpora, manifests, tokenizers, features and batches for training."""
