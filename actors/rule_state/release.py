"""Release of the state of rules: deletion of the keys of rules that were changed, disabled, suspended or deleted."""

import structlog

from actors.broker import broker
from actors.rule_state import owners, rulebook
from actors.rule_state.owners import Owners
from actors.rule_state.sweep import EVERY_KEY, Plan, sweep
from eventpulse.redis_keys import KEY_PREFIX

log = structlog.get_logger()

#: Number of orphans up to which a sweep for each of them takes less time than one sweep of all keys.
MOST_PATTERNS = 2


class StateRelease:
    """Job that deletes the keys of an owner soon after its last rule is no longer in force.

    A worker that evaluates a batch with the previous rules may write a key again. Therefore the job sweeps again until
    it finds no key. Owners that are lost because the scheduler restarts are found by the survey of the state.
    """

    def __init__(self) -> None:
        self._owners: Owners | None = None
        self._orphans: set[str] = set()

    def run(self) -> int:
        """Delete the keys of owners without rules; return the number of deleted keys.

        If the rules have not changed, the call costs one small read from Redis. Raises `redis.RedisError` or
        `peewee.PeeweeException` if a server is unavailable.
        """
        if self._is_current():
            return 0
        known = owners.published()
        if self._owners is not None:
            self._orphans |= self._owners.rules.keys()
        self._orphans -= known.rules.keys()
        self._owners = known
        if not self._orphans:
            return 0
        released = sum(sweep(_without_measurement, pattern).released for pattern in self._patterns())
        if released:
            log.info("rule_state_released", keys=released, owners=sorted(self._orphans))
        else:
            self._orphans.clear()
        return released

    def _is_current(self) -> bool:
        if self._owners is None or self._orphans:
            return False
        revision: bytes | None = broker.client.get(rulebook.REVISION)  # type: ignore[assignment]
        return revision is not None and revision.decode() == self._owners.revision

    def _patterns(self) -> list[str]:
        """Return patterns that match the keys of the orphans."""
        if len(self._orphans) > MOST_PATTERNS:
            return [EVERY_KEY]
        return [f"{KEY_PREFIX}:*:{orphan}*" for orphan in self._orphans]


def _without_measurement(known: Owners) -> Plan:
    return dict.fromkeys(known.rules, (0, 0))
