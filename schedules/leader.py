"""Which of several schedulers leads: the one that holds an advisory lock of PostgreSQL.

The lock belongs to a connection of its own, and goes with it: a leader that dies, or loses PostgreSQL,
is no longer one.
"""

import psycopg2
import psycopg2.extensions

from models.database import KEEPALIVE, SERVER_KEEPALIVE

#: Any number will do, as long as every scheduler of every version agrees on it.
ADVISORY_LOCK = 7_307_309_102


class Leadership:
    """The chance to lead, tried with `hold` again and again."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg2.extensions.connection | None = None
        #: Why PostgreSQL could not be asked the last time; None: it could.
        self.error: str | None = None

    def hold(self) -> bool:
        """Whether this process leads now. False, too, when PostgreSQL is away."""
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(
                    self._url,
                    connect_timeout=5,
                    **KEEPALIVE,
                    application_name="eventpulse-leader",
                    options=f"-c statement_timeout=5s {SERVER_KEEPALIVE}",
                )
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                # A lock that is held already is granted again; closing the connection releases it altogether.
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_LOCK,))
                row = cursor.fetchone()
        except psycopg2.Error as error:
            self.error = " ".join(str(error).split())
            self.release()
            return False
        self.error = None
        return bool(row and row[0])

    def release(self) -> None:
        """Let another lead."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
