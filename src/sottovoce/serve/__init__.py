"""The live page: models beside each other on one microphone or recording, over a documented socket (docs/serve.md)."""

from sottovoce.serve.app import make_app
from sottovoce.serve.limits import Limits
from sottovoce.serve.models import ServedModel, open_models
from sottovoce.serve.server import make_server

__all__ = ["Limits", "ServedModel", "make_app", "make_server", "open_models"]
