"""The channels: where anomalies are announced."""

from http import HTTPStatus
from math import ceil
from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

import falcon
import peewee

from actors import runtime
from api import problems
from api.resources import json_body
from api.resources.channel_schemas import ChannelSchema
from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import Page
from eventpulse.masking import MASK
from models.base import now
from models.channel import Channel
from notifiers.base import Notification, TryAgain, Undeliverable
from notifiers.registry import public_settings

NEWEST_FIRST = (Channel.created_at, Channel.channel_id)
SCHEMA = ChannelSchema()
READ_ONLY = {"channel_id", "created_at", "updated_at"}


class Channels:
    """`/api/v1/channels` and `/api/v1/channels/{channel_id}`. Secrets go in and never come out."""

    needs_database = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(Page().load(req.params), NEWEST_FIRST, public)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        channel = Channel(**written(json_body.read(req)))
        store(channel, force_insert=True)
        resp.status = falcon.HTTP_201
        resp.location = f"/api/v1/channels/{channel.channel_id}"
        resp.media = public(channel)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, channel_id: str) -> None:
        resp.media = public(find(Channel, channel_id))

    def on_put_one(self, req: falcon.Request, resp: falcon.Response, channel_id: str) -> None:
        change(find(Channel, channel_id), json_body.read(req), resp)

    def on_patch_one(self, req: falcon.Request, resp: falcon.Response, channel_id: str) -> None:
        channel = find(Channel, channel_id)
        change(channel, public(channel) | json_body.read(req), resp)

    def on_delete_one(self, _req: falcon.Request, resp: falcon.Response, channel_id: str) -> None:
        find(Channel, channel_id).delete_instance()
        resp.status = falcon.HTTP_204

    def on_post_test(self, _req: falcon.Request, resp: falcon.Response, channel_id: str) -> None:
        """Send a trial now, whether the channel is enabled or not."""
        channel = find(Channel, channel_id)
        if not TRIALS.acquire(blocking=False):
            raise problems.unavailable("Other channels are being tested just now")
        try:
            receipt = runtime.current().notifiers[channel.kind].send(trial(channel), channel.settings)
        except TryAgain as later:
            headers = {"Retry-After": str(ceil(later.after_seconds))} if later.after_seconds is not None else None
            raise problems.Problem(HTTPStatus.BAD_GATEWAY, later.reason, headers=headers) from later
        except Undeliverable as refusal:
            raise problems.Problem(HTTPStatus.BAD_GATEWAY, refusal.reason) from refusal
        finally:
            TRIALS.release()
        resp.media = {"status": "delivered", "receipt": receipt.text}


#: Trials at once: each takes as long as its channel does, and tells its caller whether an inner address answers.
TRIALS = BoundedSemaphore(2)


def written(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a channel that admins write, with their defaults. Raises `marshmallow.ValidationError`."""
    fields: dict[str, Any] = SCHEMA.load({name: value for name, value in document.items() if name not in READ_ONLY})
    return fields


def change(channel: Channel, document: dict[str, Any], resp: falcon.Response) -> None:
    settings = document.get("settings")
    if isinstance(settings, dict) and document.get("kind") == channel.kind:
        # Who sends a channel back as it was read sends masks: what they stand for stays.
        kept = {name: value for name, value in channel.settings.items() if settings.get(name) == MASK}
        document = document | {"settings": settings | kept}
    for name, value in written(document).items():
        setattr(channel, name, value)
    channel.updated_at = now()
    store(channel)
    resp.media = public(channel)


def store(channel: Channel, **options: Any) -> None:
    try:
        channel.save(**options)
    except peewee.IntegrityError as error:
        raise problems.Problem(HTTPStatus.CONFLICT, "Another channel has this name") from error


def public(channel: Channel) -> dict[str, Any]:
    return {**channel.__data__, "settings": public_settings(channel.kind, channel.settings)}


def trial(channel: Channel) -> Notification:
    """An anomaly that never was. Its ids are nil, so that nobody looks for it."""
    nil = str(UUID(int=0))
    return Notification(
        kind="test",
        subject_key=f"channel:{channel.channel_id}",
        anomaly_id=nil,
        rule_id=nil,
        rule_name="Channel test",
        severity="info",
        message=f"This is a test of the channel {channel.name}: alerts will look like this",
        observed="1",
        threshold="none",
        window_seconds=0,
        group={},
        event_id=nil,
        occurred_at=now(),
        detected_at=now(),
        evidence=[],
        link=None,
    )
