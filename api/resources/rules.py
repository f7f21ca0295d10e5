"""Resource of rules and of their versions."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

import falcon
import peewee
import redis
import structlog
from marshmallow import ValidationError

from actors.rule_state import report, rulebook
from actors.rule_state.report import RuleState
from api import problems
from api.openapi import response_schemas as json_schema
from api.openapi.operation import listing
from api.resources import crud
from api.resources.lookup import not_found, parse_id
from api.resources.paging import page
from api.resources.query_params import Page
from eventpulse.settings import Settings
from models.anomaly import Anomaly, CurrentStorm
from models.rule import Rule, RuleVersion
from rules import conditions
from rules.conditions.fields import TOO_MANY_VALUES_ERROR
from rules.rule import RuleSchema

log = structlog.get_logger()

VERSIONS_NEWEST_FIRST = (RuleVersion.changed_at, RuleVersion.rule_version_id)

EXAMPLE = {
    "name": "High error rate",
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 300,
    "condition": {
        "type": "threshold",
        "metric": "count",
        "filters": {"event_type": "error", "source": "payment_service"},
        "group_by": ["source"],
        "operator": ">",
        "value": 5,
    },
}
STORMING_SINCE = json_schema.nullable(json_schema.TIME) | {
    "description": "start of the storm if the status is `storming`, otherwise null"
}
STATUS_REASON = json_schema.nullable(json_schema.STRING) | {
    "description": "reason of the suspension if the status is `error`, otherwise null"
}
WARNINGS = json_schema.array(json_schema.STRING) | {
    "description": "warnings about a valid rule; absent if there are none"
}
#: State of a rule in Redis, as measured at intervals; null before the first measurement, or if Redis is unavailable.
STATE = {
    "state_bytes": json_schema.nullable(json_schema.INTEGER)
    | {"description": "estimated memory of the windows and cooldowns of the rule in Redis"},
    "series": json_schema.nullable(json_schema.INTEGER) | {"description": "number of groups in these windows"},
    "degraded": json_schema.nullable(json_schema.object_of({"reason": json_schema.STRING, "since": json_schema.TIME}))
    | {"description": "set while the rule needs more memory than its budget: events of new groups are not counted"},
    "uncounted_events": json_schema.nullable(json_schema.INTEGER)
    | {"description": "number of events that were not counted since the rule is degraded"},
    "cost": json_schema.nullable(
        json_schema.object_of({"microseconds_per_event": json_schema.NUMBER, "share": json_schema.NUMBER})
    )
    | {
        "description": "measured time of the windows, for each matching event and as a share of all rules; "
        "null for a rule without windows, or without measured events"
    },
}


class RulesResource(crud.CrudResource):
    """`/api/v1/rules`, `/api/v1/rules/{rule_id}` and `/api/v1/rules/{rule_id}/versions`.

    Changes are published to the workers.
    """

    model = Rule
    schema = RuleSchema()
    read_only = frozenset(
        {
            "rule_id",
            "version",
            "status",
            "status_reason",
            "storming_since",
            "created_at",
            "updated_at",
            "warnings",
            *STATE,
        }
    )
    newest_first = (Rule.created_at, Rule.rule_id)
    unique_field = "key"
    schemas = {
        "Rule": json_schema.row(
            Rule,
            {"error"},
            status=json_schema.choice("active", "storming", "disabled", "error"),
            status_reason=STATUS_REASON,
            storming_since=STORMING_SINCE,
            **STATE,
        ),
        "WrittenRule": {
            "allOf": [json_schema.ref("Rule"), {"type": "object", "properties": {"warnings": WARNINGS}}],
        },
        "RuleVersion": json_schema.row(RuleVersion),
    }
    operations = crud.operations("Rule", RuleSchema, EXAMPLE, 422, written="WrittenRule") | {
        "on_get_versions": listing(
            "List the versions of a rule, even of a deleted rule, newest first", "RuleVersion", Page, 404
        )
    }

    def __init__(self, settings: Settings) -> None:
        self._max_active = settings.max_active_rules

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        states, storms = _states(), Anomaly.current_storms()

        def with_state(row: Rule) -> dict[str, Any]:
            rule = self.public(row) | _public_state(states.get(str(row.rule_id)))
            _mark_storm(rule, storms)
            return rule

        resp.media = page(Page().load(req.params), self.newest_first, with_state)

    def on_get_versions(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        query = Page().load(req.params) | {"rule_id": parse_id(path)}
        if not RuleVersion.select().where(RuleVersion.rule_id == query["rule_id"]).exists():
            raise not_found("Rule")
        resp.media = page(query, VERSIONS_NEWEST_FIRST, super().public, {"rule_id": RuleVersion.rule_id})

    def create(self, fields: Mapping[str, Any]) -> Rule:
        return Rule.add(self._max_active, **fields)

    def change(self, row: Rule, fields: dict[str, Any]) -> bool:
        return row.change(self._max_active, **fields)

    def public(self, row: Rule) -> dict[str, Any]:
        columns = {name: value for name, value in row.__data__.items() if name != "error"}
        return columns | {"status": row.status, "status_reason": row.error}

    def validated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a rule.

        Raises `problems.Problem` with status 422 if every error is a filter with too many values, and
        `marshmallow.ValidationError` if there is any other error.
        """
        try:
            return super().validated(body)
        except ValidationError as error:
            errors = list(problems.flatten(error.messages))
            if any(each["message"] != TOO_MANY_VALUES_ERROR for each in errors):
                raise
            raise problems.invalid(errors, "Rule too large", HTTPStatus.UNPROCESSABLE_ENTITY) from error

    def after_change(self) -> None:
        """Publish the rules to the workers.

        If Redis or PostgreSQL is unavailable, log a warning; the scheduler publishes the rules later.
        """
        try:
            rulebook.publish()
        except (redis.RedisError, peewee.PeeweeException) as error:
            log.warning("rules_not_published", reason=str(error))

    def warnings(self, row: Rule) -> list[str]:
        return conditions.warnings(row.condition)

    def _answer(self, row: Rule, resp: falcon.Response) -> None:
        super()._answer(row, resp)
        resp.media.update(_public_state(_states().get(str(row.rule_id))))
        _mark_storm(resp.media, Anomaly.current_storms([row.rule_id]))


def _states() -> dict[str, RuleState]:
    """Return the states of the rules by rule id. If Redis is unavailable, log a warning and return no state."""
    try:
        return report.read_all()
    except redis.RedisError as error:
        log.warning("rule_states_unavailable", reason=str(error))
        return {}


def _public_state(state: RuleState | None) -> dict[str, Any]:
    return dict.fromkeys(STATE) if state is None else {name: getattr(state, name) for name in STATE}


def _mark_storm(rule: dict[str, Any], storms: Mapping[UUID, CurrentStorm]) -> None:
    """Set the field `storming_since` of an active rule and, if the rule is marked as storming, its status."""
    storm = storms.get(rule["rule_id"])
    is_storming = storm is not None and storm.marks(rule["version"]) and rule["status"] == "active"
    rule["storming_since"] = storm.since if storm and is_storming else None
    if is_storming:
        rule["status"] = "storming"
