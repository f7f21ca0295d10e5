"""Rules, as administrators write them."""

from collections.abc import Mapping
from typing import Any

import peewee
import redis
import structlog

from actors.rule_state import rulebook
from api.openapi import response_schemas as json_schema
from api.resources import crud
from models.rule import Rule
from rules.rule import RuleSchema

log = structlog.get_logger()

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
STATUS_REASON = json_schema.nullable(json_schema.STRING) | {
    "description": "why the rule is suspended if its status is `error`"
}


class RulesResource(crud.CrudResource):
    """`/api/v1/rules` and `/api/v1/rules/{rule_id}`. Changes are published to the workers."""

    model = Rule
    schema = RuleSchema()
    read_only = frozenset({"rule_id", "version", "status", "status_reason", "created_at", "updated_at"})
    newest_first = (Rule.created_at, Rule.rule_id)
    unique_field = "key"
    schemas = {
        "Rule": json_schema.row(
            Rule,
            {"error"},
            status=json_schema.choice("active", "disabled", "error"),
            status_reason=STATUS_REASON,
        )
    }
    operations = crud.operations("Rule", RuleSchema, EXAMPLE)

    def create(self, fields: Mapping[str, Any]) -> Rule:
        return Rule.add(**fields)

    def public(self, row: Rule) -> dict[str, Any]:
        columns = {name: value for name, value in row.__data__.items() if name != "error"}
        return columns | {"status": row.status, "status_reason": row.error}

    def after_change(self) -> None:
        """Publish the rules. Without Redis the change is stored all the same; the scheduler publishes it later."""
        try:
            rulebook.publish()
        except (redis.RedisError, peewee.PeeweeException) as error:
            log.warning("rules_not_published", reason=str(error))
