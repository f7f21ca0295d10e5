"""When, never what: the timetable, and who of several schedulers keeps it."""
