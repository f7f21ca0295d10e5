"""Masking of passwords and webhook URLs in output and logs."""

import re

#: Text that replaces a secret.
MASK = "***"

# Password between the user and the host of a URL. The lookahead excludes a port, as in `http://host:8000/a@b`.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)(?!\d+[/?#])[^\s\"'<>]+@")
_PASSWORD_PARAMETER = re.compile(r"(\bpassword=)[^\s&\"']+")
_SLACK_WEBHOOK = re.compile(r"(https://hooks\.slack(?:-gov)?\.com/)[^\s\"'<>]+")
# Password in a text that is a single URL. It ends at the last @, and may contain spaces and quotes.
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
