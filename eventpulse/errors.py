"""Errors that the user can correct: each is one line, with the exit code of the command."""

OK = 0
FINDINGS = 3
PARTIAL = 5
INTERRUPTED = 130


class UserError(Exception):
    """An expected failure. The message is one line: what is wrong, and what to do."""

    exit_code = 1


class NotFound(UserError):
    """The requested object does not exist."""

    exit_code = 4


class Declined(UserError):
    """A destructive command was not confirmed; nothing was changed."""

    exit_code = 6


class Unreachable(UserError):
    """Redis, PostgreSQL or the API is unavailable (EX_UNAVAILABLE of sysexits.h)."""

    exit_code = 69
