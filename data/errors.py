"""Errors that a user can act on. Every message is one sentence or two: what, where, what to do."""


class MrnnError(Exception):
    """Base class of our errors; a command prints its text as one line and exits with 1."""


class SettingError(MrnnError, ValueError):
    """A setting, or a combination of settings, that cannot be; a command shows its usage and exits with 2."""


class CorpusError(MrnnError):
    """The files of a data set are missing, not in the expected form, or lead outside their root."""


class CacheError(MrnnError):
    """A feature cache is missing, damaged, incomplete, in use, or does not match the request."""


class ImageError(MrnnError):
    """A file is not an image that can be decoded within the limits."""


class WeightsError(MrnnError):
    """The weights of a backbone cannot be obtained or read, or do not match the network."""


class CheckpointError(MrnnError):
    """A run folder or checkpoint is missing, damaged, or does not match the request."""


class TrainingError(MrnnError):
    """Training cannot start or continue (no training images, a loss that is not finite)."""


class EvaluationError(MrnnError):
    """An evaluation cannot be carried out as requested."""


class ScorerUnavailable(MrnnError):
    """A scorer that needs Java or a download cannot run here or timed out; the other scores are valid."""


class Stopped(Exception):
    """Work stopped on request with everything saved; the same command resumes it."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        """exit_code : 75 after SIGTERM, SIGUSR1 or a time limit, 130 after Ctrl-C."""
        super().__init__(message)
        self.exit_code = exit_code
