"""Standard streams that are closed, or that their reader closes, and locales that are not UTF-8.

None of them is a reason to stop working: what nobody can read is not printed.
"""

import errno
import io
import os
import sys

GONE = (errno.EPIPE, errno.EIO)  # a pipe without reader, a terminal that hung up
STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def suit_streams() -> None:
    """Make this process's standard streams ones that can always be written to.

    A stream that was closed before the start (`2>&-`) becomes the null device, also for libraries written in C; its
    number would otherwise go to the next file that is opened, a cache for one, and messages with it.
    """
    for number, name, mode in STREAMS:
        if not _is_open(number):
            _to_null(number)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif mode == "w" and type(stream) is io.TextIOWrapper and stream.fileno() == number:
            setattr(sys, name, _UntilClosed(stream, number))


def use_utf8() -> None:
    """Start this process anew in Python's UTF-8 mode if the locale asks for another encoding.

    Names of files in data sets are UTF-8; under a forced ASCII or Latin-1 locale Python could not open them, though it
    lists them, nor print them. The process keeps its number. Does nothing where the mode or the locale is UTF-8.
    """
    encoding = sys.getfilesystemencoding().lower().replace("-", "")
    if encoding != "utf8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


class _UntilClosed(io.TextIOWrapper):
    """A standard stream that writes to the null device from the moment its reader has gone (`| head -1`)."""

    def __init__(self, stream: io.TextIOWrapper, number: int) -> None:
        stream.flush()
        super().__init__(
            stream.buffer,  # shared, since others may hold the stream itself
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._number = number

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        """From now on write to the null device, if the reader has gone; raise the error if it says anything else."""
        if error.errno not in GONE:
            raise error
        _to_null(self._number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _to_null(number: int) -> None:
    """Let a descriptor stand for the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
