"""Tests of the protection against cross-site request forgery: changes sent by pages of other sites are rejected."""

from dataclasses import replace

import pytest
from falcon.testing import TestClient

from api.app import create_app
from eventpulse.settings import ConnectedSettings

#: The built-in console channel, whose id is the same in every installation.
TEST = "/api/v1/channels/00000000-0000-7000-8000-000000000001/test"
OWN = {"Host": "127.0.0.1:8000"}
EVIL = "https://evil.example"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": EVIL, "Content-Type": "text/plain"},
        {"Origin": EVIL, "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        {"Origin": EVIL, "Content-Type": "Multipart/Form-Data; boundary=x"},
    ],
    ids=str,
)
def test_a_change_that_a_page_of_another_site_sends_is_rejected(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.simulate_post(TEST, headers=OWN | headers)
    assert (answer.status_code, answer.json["detail"]) == (403, "Cross-origin requests are not allowed")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://pulse.example.com", "Sec-Fetch-Site": "same-origin"},
        {"Origin": EVIL, "Content-Type": "application/json"},
    ],
    ids=str,
)
def test_requests_of_programs_and_of_the_same_origin_and_json_are_accepted(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.simulate_post(TEST, headers=OWN | headers).status_code == 200


def test_a_page_of_the_public_url_may_send_changes(settings: ConnectedSettings) -> None:
    client = TestClient(create_app(replace(settings, public_url="https://pulse.example.com")))
    headers = OWN | {"Origin": "https://pulse.example.com", "Sec-Fetch-Site": "cross-site"}
    assert client.simulate_post(TEST, headers=headers).status_code == 200


def test_pages_of_other_sites_can_follow_links(client: TestClient) -> None:
    headers = OWN | {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    assert client.simulate_get("/api/v1/channels", headers=headers).status_code == 200
