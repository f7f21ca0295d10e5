"""Exit codes of the command line, and errors that the user can correct."""

OK = 0
FINDINGS = 3
PARTIAL = 5
INTERRUPTED = 130


class UserError(Exception):
    """Error that the user can correct. The message is one line with the cause and, if it is not obvious, the remedy."""

    exit_code = 1


class NotFound(UserError):
    """Raised when the requested object does not exist."""

    exit_code = 4


class Declined(UserError):
    """Raised when a change was not confirmed. Nothing has been changed."""

    exit_code = 6


class Unreachable(UserError):
    """Raised when Redis, PostgreSQL or the API is unavailable. The exit code is EX_UNAVAILABLE of sysexits.h."""

    exit_code = 69
