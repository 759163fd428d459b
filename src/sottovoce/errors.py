"""The errors that a user can cause, each one clear line; the command line turns them into exit code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class SottovoceError(Exception):
    """A user's mistake or a bad input: one line naming the file, tensor or option, what was expected and what was
    found."""


class FormatError(SottovoceError):
    """A model file that cannot be trusted."""


class DataError(SottovoceError):
    """Audio, transcripts or manifests that cannot be used."""


class ConfigError(SottovoceError):
    """A recipe, an option or an override that cannot be used."""


class PlanError(SottovoceError):
    """A bit plan that does not fit the model or the target."""


class ExportError(SottovoceError):
    """A model that another runtime's form cannot hold, or an export that does not compute the model."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known name that is closest, or nothing: the way out of a misspelling."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
