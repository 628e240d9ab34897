"""What stands at /metrics, read by Prometheus's own client library and held to the documented list."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai
import pytest
from observed import client
from processes import Gateway, Simulated
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"
# The model of a client, which must not become a label; and a name that would break the format, were it not escaped.
CLIENTS_MODEL = 'client "model" \\ of\na kind'
ROW = re.compile(r"^\| `(failover_\w+)` \| (counter|gauge|histogram) \| ([^|]*) \|", re.MULTILINE)


def documented() -> dict[str, tuple[str, set[str]]]:
    """The kind and the labels of each metric."""
    rows = ROW.findall(DOCUMENTED.read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def buckets() -> dict[str, list[float]]:
    lines = re.findall(r"^- `(failover_\w+)`: (.*)$", DOCUMENTED.read_text(), re.MULTILINE)
    return {name: [float(bound) for bound in bounds.split(", ")] for name, bounds in lines}


def scrape(gateway: Gateway) -> dict[str, Metric]:
    with httpx2.Client(trust_env=False) as http:
        response = http.get(f"{gateway.url}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(response.text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family stands there twice"
    # The library takes the ending off the names of counters.
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in families}


@pytest.fixture
def metrics(start_gateway: Callable[..., Gateway], simulated: Simulated) -> dict[str, Metric]:
    """After requests that went well, over to the fallback, and wrong."""
    gateway = start_gateway(attempts=2, primary="price = { input = 1, output = 2 }")

    async def run() -> None:
        async with client(gateway.url) as sdk:

            async def ask(model: str, stream: bool) -> None:
                messages = [{"role": "user", "content": "Hi"}]
                answer = await sdk.chat.completions.create(model=model, messages=messages, stream=stream)  # type: ignore[call-overload]
                if stream:
                    assert [chunk async for chunk in answer]

            await ask(CLIENTS_MODEL, False)
            await ask(CLIENTS_MODEL, True)
            simulated.set("primary", "overloaded")
            await ask(CLIENTS_MODEL, False)
            simulated.set("fallback", "overloaded")
            with pytest.raises(openai.APIStatusError):
                await ask(CLIENTS_MODEL, False)

    asyncio.run(run())
    return scrape(gateway)


def test_names_types_and_labels_are_those_of_the_documentation(metrics: dict[str, Metric]) -> None:
    known = documented()
    assert len(known) >= 15, "or this would prove nothing"
    for name, family in metrics.items():
        kind, labels = known[name]
        assert family.type == kind, name
        assert family.documentation, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
            assert math.isfinite(sample.value) and (kind == "gauge" or sample.value >= 0), sample
    # Nothing was hedged, nor broke off: but what there is of targets and routes stands there from the start.
    # Here is no client with a key, nobody is checked, nothing is kept, and nothing shared.
    elsewhere = ("failover_client_", "failover_health_checks_", "failover_cache_", "failover_shared_state_")
    missing = {name for name in known.keys() - metrics.keys() if not name.startswith(elsewhere)}
    assert not missing, missing


def test_histograms_have_the_documented_buckets_and_add_up(metrics: dict[str, Metric]) -> None:
    for name, bounds in buckets().items():
        series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        counts: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in metrics[name].samples:
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert series, name
        for labels, found in series.items():
            assert [bound for bound, _ in found] == [*bounds, math.inf], name
            values = [value for _, value in found]
            assert values == sorted(values) and values[-1] == counts[labels], name


def test_what_happened_is_counted_and_no_clients_name_is_a_label(metrics: dict[str, Metric]) -> None:
    def total(name: str, **labels: str) -> float:
        samples = metrics[name].samples
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    assert total("failover_requests_total", route="*", outcome="answered") == 3
    assert total("failover_requests_total", route="*", outcome="failed") == 1
    assert total("failover_attempts_total", target="primary/*", outcome="answered") == 2
    assert total("failover_retries_total", target="primary/*") >= 1
    assert total("failover_failovers_total", **{"from": "primary/*", "to": "fallback/*"}) >= 2
    assert total("failover_tokens_total", target="primary/*", kind="output") > 0
    assert total("failover_build_info") == 1
    for family in metrics.values():
        for sample in family.samples:
            for value in sample.labels.values():
                assert "client" not in value, sample
