"""What can go wrong that its reader can do something about: one line each, and the exit code of the command."""

OK = 0
FINDINGS = 3
PARTIAL = 5
INTERRUPTED = 130


class UserError(Exception):
    """An expected failure: the message is one line that says what is wrong and what to do."""

    exit_code = 1


class NotFound(UserError):
    """What was asked for does not exist."""

    exit_code = 4


class Declined(UserError):
    """A destructive command that nobody agreed to; nothing has changed."""

    exit_code = 6


class Unreachable(UserError):
    """Redis, PostgreSQL or the API does not answer (EX_UNAVAILABLE of sysexits.h)."""

    exit_code = 69
