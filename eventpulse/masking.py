"""No password and no webhook in anything that a person may read."""

import re

MASK = "***"

# A password between a URL's user and its host, whatever it is made of; `http://host:8000/a@b` has none.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)(?!\d+[/?#])[^\s\"'<>]+@")
_PASSWORD_PARAMETER = re.compile(r"(\bpassword=)[^\s&\"']+")
_SLACK_WEBHOOK = re.compile(r"(https://hooks\.slack(?:-gov)?\.com/)[^\s\"'<>]+")


# Of a URL that stands alone: up to its last @.
_WHOLE_URL_PASSWORD = re.compile(r"(?s)\A([^/]*://[^/:@]*:)(?!\d+[/?#]).*@")


def masked_url(url: str) -> str:
    """A URL by itself with its secrets replaced by `***`, whatever they are made of."""
    return masked(_WHOLE_URL_PASSWORD.sub(rf"\1{MASK}@", url))


def masked(text: str) -> str:
    """The text with the passwords of its URLs and the paths of its Slack webhooks replaced by `***`."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
        text = _SLACK_WEBHOOK.sub(rf"\1{MASK}", text)
    if "password=" in text:
        text = _PASSWORD_PARAMETER.sub(rf"\1{MASK}", text)
    return text
