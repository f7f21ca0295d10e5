"""Slack channels, which use an incoming webhook.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import marshmallow
from marshmallow import validate

from notifiers.base import Notification, Receipt, Undeliverable
from notifiers.http import HttpClient, Response
from notifiers.kind import ChannelKind, NotifierContext
from notifiers.secret_settings import Secret, resolve
from notifiers.slack import blocks

_is_url = validate.URL(schemes={"http", "https"}, require_tld=False, error="Must be an http or https URL.")


def _check_webhook_url(value: str) -> None:
    _is_url(value)
    try:
        urlsplit(value).port  # noqa: B018 - raises if the port is not valid
    except ValueError:
        raise marshmallow.ValidationError("Must have a port from 0 to 65535.") from None


class SlackSettings(marshmallow.Schema):
    webhook_url = Secret(
        required=True,
        check=_check_webhook_url,
        metadata={"description": "URL of an incoming webhook, or the reference `env:SLACK_WEBHOOK_URL`"},
    )


class Slack:
    """Notifier that posts to an incoming webhook.

    Slack accepts one message per second for each channel. It rejects further messages with status 429 and the header
    `Retry-After`.
    """

    def __init__(self, http: HttpClient, environment_secrets: Mapping[str, str | None]) -> None:
        self._http = http
        self._environment_secrets = environment_secrets

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        return self._http.submit(self.send_async(notification, settings)).result()

    async def send_async(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        url = resolve(settings["webhook_url"], self._environment_secrets)
        response = await self._http.post_async(url, blocks.message(notification))
        if response.text.strip() != "ok":
            # A login page and an error of Slack's Web API (`"ok": false`) also have the status 200.
            raise Undeliverable("the response is not from a Slack webhook")
        return Receipt("Slack responded ok", reference=_request_id(response))


def _request_id(response: Response) -> str | None:
    """Return the id of the request at Slack, for enquiries to Slack's support; None if it is missing or invalid.

    The id is validated, because a server other than Slack could return the URL, which is a secret, in this header.
    """
    request_id: str | None = response.headers.get("X-Slack-Req-Id")
    return request_id if request_id and re.fullmatch(r"[0-9A-Za-z-]{1,64}", request_id) else None


def _build(context: NotifierContext) -> Slack:
    return Slack(context.http, context.environment_secrets)


KIND = ChannelKind("slack", SlackSettings, _build)
