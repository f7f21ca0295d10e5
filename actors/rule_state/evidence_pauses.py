"""Rules whose windows are not read for evidence, because the last query was too slow."""

import time

#: Time for which the windows of a rule are not read after a query that was too slow.
PAUSE_SECONDS = 60.0


class EvidencePauses:
    """Pauses of rules in this process."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def pause(self, rule_id: str) -> None:
        """Start a pause of `PAUSE_SECONDS`."""
        self._until[rule_id] = time.monotonic() + PAUSE_SECONDS

    def is_paused(self, rule_id: str) -> bool:
        """Return whether the rule is paused."""
        if time.monotonic() < self._until.get(rule_id, 0.0):
            return True
        self._until.pop(rule_id, None)
        return False
