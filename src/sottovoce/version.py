"""The version, in a module of its own: whoever imports the package's face imports every room by it."""

__version__ = "0.1.0"
