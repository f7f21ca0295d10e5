"""`python -m eventpulse` is the command line."""

from eventpulse.cli.main import main

main()
