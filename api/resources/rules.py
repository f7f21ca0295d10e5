"""The rules, as admins write them."""

from typing import Any

import falcon
import peewee
import redis
import structlog

from actors.rule_state import rulebook
from api import problems
from api.resources import json_body
from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import Page
from models.rule import Rule
from rules.rule import RuleSchema

log = structlog.get_logger()

NEWEST_FIRST = (Rule.created_at, Rule.rule_id)
SCHEMA = RuleSchema()
#: What we add to a rule: a client may send a rule back as it was read, and change nothing by these.
READ_ONLY = {"rule_id", "version", "status", "status_reason", "created_at", "updated_at"}


class Rules:
    """`/api/v1/rules` and `/api/v1/rules/{rule_id}`. Every change is a new version, named by the `ETag`."""

    needs_database = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(Page().load(req.params), NEWEST_FIRST, public)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        rule = Rule.add(**written(json_body.read(req)))
        resp.status = falcon.HTTP_201
        resp.location = f"/api/v1/rules/{rule.rule_id}"
        show(rule, resp)
        publish()

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, rule_id: str) -> None:
        show(find(Rule, rule_id), resp)

    def on_put_one(self, req: falcon.Request, resp: falcon.Response, rule_id: str) -> None:
        change(find(Rule, rule_id), json_body.read(req), req, resp)

    def on_patch_one(self, req: falcon.Request, resp: falcon.Response, rule_id: str) -> None:
        rule = find(Rule, rule_id)
        change(rule, public(rule) | json_body.read(req), req, resp)

    def on_delete_one(self, req: falcon.Request, resp: falcon.Response, rule_id: str) -> None:
        rule = find(Rule, rule_id)
        json_body.check_version(req, rule.version)
        if not rule.remove():
            raise overtaken(req)
        publish()
        resp.status = falcon.HTTP_204


def written(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a rule that admins write, with their defaults. Raises `marshmallow.ValidationError`."""
    fields: dict[str, Any] = SCHEMA.load({name: value for name, value in document.items() if name not in READ_ONLY})
    return fields


def change(rule: Rule, document: dict[str, Any], req: falcon.Request, resp: falcon.Response) -> None:
    json_body.check_version(req, rule.version)
    if not rule.change(**written(document)):
        raise overtaken(req)
    show(find(Rule, str(rule.rule_id)), resp)
    publish()


def overtaken(req: falcon.Request) -> problems.Problem:
    return problems.Problem(412 if req.if_match else 409, "Somebody else has changed the rule meanwhile")


def publish() -> None:
    """Put the change in force. Without Redis it is stored all the same, and the scheduler publishes it.

    Comes last: it gives the connection of the request back.
    """
    try:
        rulebook.publish()
    except (redis.RedisError, peewee.PeeweeException) as error:
        log.warning("rules_not_published", reason=str(error))


def show(rule: Rule, resp: falcon.Response) -> None:
    resp.etag = str(rule.version)
    resp.media = public(rule)


def public(rule: Rule) -> dict[str, Any]:
    shown = {name: value for name, value in rule.__data__.items() if name != "error"}
    return shown | {"status": rule.status, "status_reason": rule.error}
