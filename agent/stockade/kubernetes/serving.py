"""The life of the webhook's process: its port, its page of figures, and its end with SIGTERM."""

from __future__ import annotations

import asyncio
import dataclasses
import platform
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade import __version__
from stockade.kubernetes.certificate import Certificate
from stockade.kubernetes.webhook import Webhook, Whom
from stockade.metrics.catalogue import WEBHOOK
from stockade.metrics.collector import Page
from stockade.metrics.endpoint import Endpoint
from stockade.metrics.listen import Listen
from stockade.metrics.samples import Sample
from stockade.types import StockadeError


@dataclass(frozen=True, slots=True)
class Settings:
    """listen, metrics: where; metrics None: nowhere. certificate, key: PEM files.

    policies: only pods that one of them means are changed, and the API is asked for them. kubeconfig None: as the pod that this runs in.
    """

    listen: Listen
    certificate: Path
    key: Path
    whom: Whom
    metrics: Listen | None = None
    policies: bool = False
    kubeconfig: Path | None = None


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises StockadeError when it cannot serve."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    certificate = Certificate(settings.certificate, settings.key)
    if not settings.policies:
        await _serve(settings, Webhook(settings.listen, certificate, settings.whom), over)
        return
    try:
        from stockade.kubernetes.meant import following  # the official client is loaded where it is needed alone
    except ImportError as error:
        raise StockadeError(f"--policies: {error}", hint="pip install 'stockade[kubernetes]'", code="kubernetes") from None
    async with following(settings.kubeconfig) as meant:
        whom = dataclasses.replace(settings.whom, chosen=meant.means)
        await _serve(settings, Webhook(settings.listen, certificate, whom), over)


async def _serve(settings: Settings, webhook: Webhook, over: asyncio.Event) -> None:
    page = Page(WEBHOOK)

    async def render(accept: str) -> tuple[bytes, str]:
        return page.render(list(samples(webhook)), accept)

    endpoint = Endpoint(settings.metrics, render) if settings.metrics is not None else None
    try:
        if endpoint is not None:
            endpoint.open()
            endpoint.serve()
            print(f"stockade: metrics at {endpoint.address}", flush=True)
        where = webhook.open()
        webhook.serve()
        print(f"stockade: webhook at {where}", flush=True)
        await over.wait()
    finally:
        await webhook.close()
        if endpoint is not None:
            await endpoint.close()


def samples(webhook: Webhook) -> Iterator[Sample]:
    yield Sample("stockade_build_info", (__version__, platform.python_version()), 1)
    for result, count in webhook.reviews.items():
        yield Sample("stockade_webhook_reviews_total", (result.value,), count)
    yield Sample("stockade_webhook_review_seconds", (), webhook.seconds)
    for status, count in webhook.requests.items():
        yield Sample("stockade_webhook_requests_total", (status,), count)
    yield Sample("stockade_webhook_certificate_expiry_time_seconds", (), webhook.certificate.until)
    yield Sample("stockade_webhook_certificate_failing", (), int(bool(webhook.certificate.failing)))
