"""One body to one webhook, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from coalmine.notifications.hooks import Hook

TIMEOUT_S = 3.0  # for each phase of a request: to connect, to send, to be answered
RETRY_AFTER_S = 1.0

Post = Callable[[str, object], None]  # sends a body to a URL; raises NotDelivered


class NotDelivered(Exception):
    """Why, in words; `worth_a_retry` where it may be better in a moment."""

    def __init__(self, why: str, *, worth_a_retry: bool) -> None:
        super().__init__(why)
        self.worth_a_retry = worth_a_retry


def post_json(url: str, body: object) -> None:
    """
    Raises:
        NotDelivered: no answer, or one that says no. Its words hold no part of the URL, which may be secret.
    """
    try:
        # The answer's body is not read: one that trickles would hold us up.
        with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as answer:
            status = answer.status_code
    except httpx.HTTPError as error:
        raise NotDelivered(type(error).__name__, worth_a_retry=True) from error
    except (httpx.InvalidURL, ValueError) as error:
        raise NotDelivered("the address is no URL", worth_a_retry=False) from error
    if not 200 <= status < 300:
        raise NotDelivered(f"it answers {status}", worth_a_retry=status == 429 or status >= 500)


def post_to(hook: Hook, body: object, post: Post = post_json) -> None:
    """`body` to `hook`, tried once more where that may help.

    Raises:
        NotDelivered: why, in words without the URL.
        InputError: its address is in an environment variable that is not set, or holds no URL.
    """
    url = hook.url()
    try:
        post(url, body)
    except NotDelivered as error:
        if not error.worth_a_retry:
            raise
        time.sleep(RETRY_AFTER_S)
        post(url, body)
