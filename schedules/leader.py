"""Election of the leading scheduler: the leader holds an advisory lock in PostgreSQL.

The lock belongs to a connection that is used for nothing else. PostgreSQL releases the lock when the connection ends,
so a scheduler that exits, crashes or loses PostgreSQL no longer leads. The election does not work through a connection
pooler in transaction mode, because the pooler shares a connection between clients.
"""

import psycopg2
import psycopg2.extensions

from models.database import KEEPALIVE, SERVER_KEEPALIVE

#: Key of the advisory lock: an arbitrary number, which must be the same in all versions.
ADVISORY_LOCK = 7_307_309_102


class Leadership:
    """Leadership of one scheduler. `acquire` must be called repeatedly, also while the scheduler leads."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg2.extensions.connection | None = None
        #: Error of the last call of `acquire`; None if PostgreSQL was available.
        self.error: str | None = None

    def acquire(self) -> bool:
        """Acquire or confirm the leadership; return whether this process leads.

        If PostgreSQL is unavailable, return False and set `error`.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            with self._connection.cursor() as cursor:
                # PostgreSQL grants the lock again to the connection that holds it. `release` closes the connection,
                # which releases the lock even if it was granted several times.
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_LOCK,))
                row = cursor.fetchone()
        except psycopg2.Error as error:
            self.error = " ".join(str(error).split())
            self.release()
            return False
        self.error = None
        return bool(row and row[0])

    def release(self) -> None:
        """Release the leadership, so that another scheduler can lead."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg2.extensions.connection:
        connection: psycopg2.extensions.connection = psycopg2.connect(
            self._url,
            connect_timeout=5,
            **KEEPALIVE,
            application_name="eventpulse-leader",
            options=f"-c statement_timeout=5s {SERVER_KEEPALIVE}",
        )
        connection.autocommit = True
        return connection
