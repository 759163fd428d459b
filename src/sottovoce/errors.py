"""The errors that a user can cause, each one clear line; the command line turns them into exit code 2."""


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
