"""Errors that the user can correct, with the exit codes of the command line."""

OK = 0
FINDINGS = 3
PARTIAL = 5
INTERRUPTED = 130


class UserError(Exception):
    """Expected failure. The message is one line with the cause and the remedy."""

    exit_code = 1


class NotFound(UserError):
    """Raised when the requested object does not exist."""

    exit_code = 4


class Declined(UserError):
    """Raised when a change was not confirmed, so that nothing was changed."""

    exit_code = 6


class Unreachable(UserError):
    """Raised when Redis, PostgreSQL or the API is unavailable (EX_UNAVAILABLE of sysexits.h)."""

    exit_code = 69
