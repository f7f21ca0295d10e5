"""Slack, by an incoming webhook."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import marshmallow
from marshmallow import fields, validate

from notifiers.base import Notification, Receipt, Undeliverable
from notifiers.http import Http, Response
from notifiers.slack import blocks

#: In the place of a webhook URL: use that of SLACK_WEBHOOK_URL, whatever it is when the message is sent.
FROM_ENVIRONMENT = "environment"

_is_url = validate.URL(schemes={"http", "https"}, require_tld=False, error="Must be an http or https URL.")


def _webhook_url(value: str) -> None:
    if value != FROM_ENVIRONMENT:
        _is_url(value)
        try:
            urlsplit(value).port  # noqa: B018 - raises for one that cannot be
        except ValueError:
            raise marshmallow.ValidationError("Must have a port from 0 to 65535.") from None


class SlackSettings(marshmallow.Schema):
    webhook_url = fields.String(
        required=True,
        validate=_webhook_url,
        metadata={"description": "URL of an incoming webhook, or `environment` for that of SLACK_WEBHOOK_URL"},
    )


class Slack:
    """Slack takes one message a second; above that it answers 429 with the time to wait, which `TryAgain` carries."""

    settings_schema: ClassVar[type[marshmallow.Schema]] = SlackSettings
    secrets: ClassVar[frozenset[str]] = frozenset({"webhook_url"})

    def __init__(self, http: Http, webhook_url: str | None) -> None:
        self._http = http
        self._webhook_url = webhook_url

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        url = settings["webhook_url"]
        if url == FROM_ENVIRONMENT:
            url = self._webhook_url
        if url is None:
            raise Undeliverable("SLACK_WEBHOOK_URL is not set")
        response = self._http.post(url, blocks.message(notification))
        if response.text.strip() != "ok":
            # A login page, or a Web API method, which says `"ok": false` with status 200. Nobody got the message.
            raise Undeliverable("the URL answers, but not as a Slack webhook does")
        return Receipt("Slack answered ok", reference=_request_id(response))


def _request_id(response: Response) -> str | None:
    """Return the id that Slack's support asks for; None if there is none, or it does not look like an id.

    A server that is not Slack could repeat the URL in the header, and the URL is a secret.
    """
    request_id: str | None = response.headers.get("X-Slack-Req-Id")
    return request_id if request_id and re.fullmatch(r"[0-9A-Za-z-]{1,64}", request_id) else None
