"""`python -m eventpulse` is the command line."""

from eventpulse.cli import main

main()
