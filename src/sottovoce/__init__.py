"""Sottovoce: speech recognition under eight bits."""
