"""Errors that a user can act on. Every message is one sentence or two: what, where, what to do."""


class MrnnError(Exception):
    """Base of all errors of ours; a command prints its text as one line and exits with 1."""


class CorpusError(MrnnError):
    """The files of a data set are not there, not of the expected form, or lead outside their root."""


class CacheError(MrnnError):
    """A feature cache is missing, damaged, incomplete, in use, or does not fit the request."""


class ImageError(MrnnError):
    """A file is not a picture that can be decoded within the limits."""


class WeightsError(MrnnError):
    """Weights of a backbone cannot be had, read, or do not fit."""


class CheckpointError(MrnnError):
    """A run folder or checkpoint is missing, damaged, or does not fit the request."""


class TrainingError(MrnnError):
    """Training cannot start or go on (no training images, a loss that is not finite)."""


class EvaluationError(MrnnError):
    """An evaluation cannot be done as asked."""


class ScorerUnavailable(MrnnError):
    """A scorer that needs Java or a download cannot run here, or did not end in time; the other scores stand."""


class Stopped(Exception):
    """Work stopped on request with everything saved; the same command goes on.

    exit_code is 75 for SIGTERM, SIGUSR1 and time limits, 130 for Ctrl-C.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
