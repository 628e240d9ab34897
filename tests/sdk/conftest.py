from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from processes import Gateway, Simulated

# Each run has keys of its own, so that finding one anywhere means that this run put it there.
PRIMARY_KEY = f"sk-primary-upstream-{secrets.token_hex(8)}"
FALLBACK_KEY = f"sk-fallback-upstream-{secrets.token_hex(8)}"

BREAKER_THAT_STAYS_CLOSED = "{ failures = 1000000, failure_rate = 1.0, min_calls = 1000000 }"
BREAKER_THAT_OPENS_SOON = "{ failures = 3 }"

CONFIG = """\
listen = "127.0.0.1:0"

[providers.primary]
dialect  = "openai-chat"
base_url = "{primary_url}"
api_key  = {{ value = "{primary_key}" }}

[providers.fallback]
dialect  = "openai-chat"
base_url = "{fallback_url}"
api_key  = {{ value = "{fallback_key}" }}

[defaults]
timeout = {{ first_output = "{patience}", response = "{patience}", idle = "1s", total = "30s" }}
retry   = {{ attempts = {attempts}, base_delay = "5ms" }}
breaker = {breaker}
{defaults}

[routes."{route}"]
targets = [
  {{ provider = "primary"{primary} }},
  {{ provider = "fallback"{fallback} }},
]
"""


@dataclass(frozen=True)
class Cell:
    """One line of the table: what 100 requests met."""

    breaker: str
    fault: str
    mode: str
    requests: int
    answers: int
    seconds: float
    reached_primary: int


CELLS = pytest.StashKey[list[Cell]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CELLS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    cells = config.stash[CELLS]
    if not cells:
        return
    terminalreporter.section("answers by the fallback")
    line = "{:<8} {:<18} {:<18} {:>9} {:>9} {:>8}".format
    terminalreporter.line(line("circuit", "primary", "request", "answers", "seconds", "primary"))
    for cell in cells:
        share, seconds = f"{cell.answers}/{cell.requests}", f"{cell.seconds:.2f}"
        terminalreporter.line(line(cell.breaker, cell.fault, cell.mode, share, seconds, cell.reached_primary))
    answers, requests = sum(cell.answers for cell in cells), sum(cell.requests for cell in cells)
    total = sum(cell.seconds for cell in cells)
    terminalreporter.line(f"{answers} of {requests} requests answered in {total:.1f} s")
    terminalreporter.line("primary: how many tries reached it. circuit: one that stays closed, or opens as usual")


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """The process that only hosts the simulated providers."""
    gateway = Gateway(tmp_path_factory.mktemp("host") / "log", "--listen", "127.0.0.1:0")
    simulated = Simulated(gateway)
    yield simulated
    simulated.close()
    assert gateway.stop() == 0, gateway.log()


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Simulated]:
    """Simulated providers that say word for word what those of the same names say, from a process of their own."""
    gateway = Gateway(tmp_path / "twin.log", "--listen", "127.0.0.1:0")
    simulated = Simulated(gateway)
    yield simulated
    simulated.close()
    assert gateway.stop() == 0, gateway.log()


@pytest.fixture
def simulated(host: Simulated) -> Iterator[Simulated]:
    """The simulated providers, healthy and with nothing received."""
    host.reset()
    yield host
    host.reset()


@dataclass
class Starter:
    """Starts the gateway under test."""

    folder: Path
    simulated: Simulated
    gateways: list[Gateway] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __call__(
        self,
        *,
        breaker: str = BREAKER_THAT_OPENS_SOON,
        attempts: int = 1,
        route: str = "*",
        primary: str = "",
        fallback: str = "",
        primary_url: str | None = None,
        patience: str = "500ms",
        defaults: str = "",
    ) -> Gateway:
        """`primary` and `fallback` are further keys of the two targets, `patience` how long an answer may take, `defaults`
        further lines under `[defaults]`."""
        number = next(self.numbers)
        file = self.folder / f"gateway-{number}.toml"
        file.write_text(
            CONFIG.format(
                primary_url=primary_url or self.simulated.base_url("primary"),
                fallback_url=self.simulated.base_url("fallback"),
                primary_key=PRIMARY_KEY,
                fallback_key=FALLBACK_KEY,
                breaker=breaker,
                attempts=attempts,
                route=route,
                patience=patience,
                defaults=defaults,
                primary=primary and f", {primary}",
                fallback=fallback and f", {fallback}",
            )
        )
        gateway = Gateway(self.folder / f"gateway-{number}.log", "--config", str(file))
        self.gateways.append(gateway)
        return gateway


@pytest.fixture
def start_gateway(simulated: Simulated, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    starter = Starter(tmp_path, simulated)
    yield starter
    statuses = [gateway.stop() for gateway in starter.gateways]
    assert statuses == [0] * len(statuses), starter.gateways[-1].log()


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with one route for all models: the primary, then the fallback."""
    return start_gateway()
