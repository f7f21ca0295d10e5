"""What may be written of a channel."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from models.channel import SEVERITIES
from notifiers.registry import KINDS
from rules.conditions.fields import Flag


class ChannelSchema(Schema):
    name = fields.String(required=True, validate=validate.Length(1, 255))
    kind = fields.String(required=True, validate=validate.OneOf(list(KINDS)))
    settings = fields.Dict(load_default=dict, metadata={"description": "what the kind of channel must be told"})
    minimum_severity = fields.String(load_default="info", validate=validate.OneOf(SEVERITIES))
    enabled = Flag(load_default=True)

    @post_load
    def check_settings(self, channel: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Check the settings by the schema of the kind that they are for."""
        try:
            settings = KINDS[channel["kind"]].settings_schema().load(channel["settings"])
        except ValidationError as error:
            raise ValidationError({"settings": error.messages}) from error
        return channel | {"settings": settings}
