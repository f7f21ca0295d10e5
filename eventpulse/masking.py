"""Masking of passwords and webhook URLs in output and logs."""

import re

#: Text that replaces a secret.
MASK = "***"

# Password between user and host, with any characters. The lookahead excludes a port: `http://host:8000/a@b`.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)(?!\d+[/?#])[^\s\"'<>]+@")
_PASSWORD_PARAMETER = re.compile(r"(\bpassword=)[^\s&\"']+")
_SLACK_WEBHOOK = re.compile(r"(https://hooks\.slack(?:-gov)?\.com/)[^\s\"'<>]+")
# Password in a text that is a single URL: the password ends at the last @.
_WHOLE_URL_PASSWORD = re.compile(r"(?s)\A([^/]*://[^/:@]*:)(?!\d+[/?#]).*@")


def masked_url(url: str) -> str:
    """Return a URL with its secrets replaced by `***`, even if the secrets contain spaces or quotes."""
    return masked(_WHOLE_URL_PASSWORD.sub(rf"\1{MASK}@", url))


def masked(text: str) -> str:
    """Return the text with the passwords of its URLs and the paths of its Slack webhooks replaced by `***`."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
        text = _SLACK_WEBHOOK.sub(rf"\1{MASK}", text)
    if "password=" in text:
        text = _PASSWORD_PARAMETER.sub(rf"\1{MASK}", text)
    return text
