"""Entry point of `python -m eventpulse`."""

from eventpulse.cli.main import main

main()
