"""Lightning modules, the compression callback, runs, and comparisons of arms."""

from sottovoce.training.callback import CompressionCallback

__all__ = ["CompressionCallback"]
