"""Rounds of ten kills at random moments; after each round all must come to rest, and nothing be lost or done twice."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.accounting import states_of, violations
from tests.faults.client import Client
from tests.faults.processes import Processes, end, start_service_again, wait_until
from tests.faults.target import SlowTarget

ROUND = 10
REST_SECONDS = 120
# Where a kill is aimed: after which event, whom, within how many seconds of it.
POINTS = {
    "accept": (("web",), 0.1),
    "dispatch": (("dispatcher", "worker", "redis"), 0.15),
    "run": (("worker", "horse", "machine", "engine"), 0.8),
    "record": (("horse", "worker", "machine"), 0.2),
}


@dataclass
class Progress:
    seed: str
    rounds: int = 0
    kills: int = 0
    scans: int = 0
    tries: int = 0
    seconds: float = 0.0
    longest_rest: float = 0.0
    killed: Counter = field(default_factory=Counter)  # point and whom
    states: Counter = field(default_factory=Counter)
    restarted: int = 0

    def __str__(self) -> str:
        killed = ", ".join(f"{count} {what}" for what, count in sorted(self.killed.items()))
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return (
            f"{self.kills} kills ({killed}) in {self.rounds} rounds and {self.seconds:.0f} s; {self.scans} scans "
            f"accepted in {self.tries} requests: {states}; all at rest within {self.longest_rest:.1f} s; "
            f"{self.restarted} processes ended by themselves; seed {self.seed}"
        )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Chaos:
    def __init__(self, processes: Processes, clients: list[Client], targets: list[SlowTarget]):
        self.processes, self.clients, self.targets = processes, clients, targets
        self.engines_killed = 0
        self.counted: Counter = Counter()

    def strike(self, chance: random.Random, progress: Progress) -> None:
        """One kill, and what was killed is started again."""
        point = chance.choice(list(POINTS))
        victims, within = POINTS[point]
        victim, moment = chance.choice(victims), chance.uniform(0, within)
        event = self._event(point, chance)
        event.clear()
        event.wait(10)
        time.sleep(moment)
        getattr(self, f"_kill_{victim}")(chance)
        progress.kills += 1
        progress.killed[f"{point}/{victim}"] += 1
        self.processes.restart_what_ended()
        time.sleep(chance.uniform(0, 1))

    def _event(self, point: str, chance: random.Random):
        client, target = chance.choice(self.clients), chance.choice(self.targets)
        return {
            "accept": client.asks,
            "dispatch": client.has_answer,
            "run": target.was_asked,
            "record": target.has_said,
        }[point]

    def _kill_web(self, chance: random.Random) -> None:
        self._kill_one(lambda: self.processes.children(self.processes.running["web"].pid), chance)

    def _kill_dispatcher(self, chance: random.Random) -> None:
        self._kill_and_start(chance.choice(self.processes.names("dispatcher")))

    def _kill_worker(self, chance: random.Random) -> None:
        """Its child goes on."""
        self._kill_and_start(chance.choice(self.processes.names("worker")))

    def _kill_machine(self, chance: random.Random) -> None:
        """A worker together with its child."""
        name = chance.choice(self.processes.names("worker"))
        horses = self.processes.children(self.processes.running[name].pid)
        self.processes.running[name].kill()
        for horse in horses:
            end(horse)
        self._kill_and_start(name)

    def _kill_horse(self, chance: random.Random) -> None:
        self._kill_one(self.processes.horses, chance)

    def _kill_engine(self, chance: random.Random) -> None:
        self.engines_killed += self._kill_one(self.processes.engines, chance)

    def _kill_redis(self, chance: random.Random) -> None:
        self.processes.redis.process.kill()
        self.processes.redis.process.wait()
        start_service_again(self.processes.redis, self.processes.log("redis"))

    def _kill_one(self, look, chance: random.Random) -> bool:
        pids = wait_until(look, 5)
        return bool(pids) and end(chance.choice(sorted(pids)))

    def _kill_and_start(self, name: str) -> None:
        self.processes.kill(name)
        self.processes.start(name)

    def rest(self) -> tuple[float, list[str]]:
        """Until nothing is open: how long that took, and what is wrong then."""
        began_at = time.monotonic()

        def is_quiet() -> bool:
            self.processes.restart_what_ended()
            return not any(client.open_scans() for client in self.clients)

        wait_until(is_quiet, REST_SECONDS)
        took = time.monotonic() - began_at
        wrong = [] if wait_until(lambda: not self.processes.engines(), 5) else ["an engine is left"]
        if not wait_until(lambda: not self.processes.strangers(), 10):
            wrong.append("a child of a worker is left")
        for client, target in zip(self.clients, self.targets, strict=True):
            wrong += violations(client, target, self.engines_killed)
        return took, wrong


def play(chaos: Chaos, progress: Progress, kills: int, save: Callable[[Progress], None]) -> int:
    """The exit code."""
    while progress.kills < kills:
        before, began_at = progress.kills, time.monotonic()
        name = f"{progress.seed}/{progress.rounds}"
        chance = random.Random(name)  # noqa: S311  to be repeated
        for client in chaos.clients:
            client.start(f"{name}/{client.slug}")
        for _ in range(min(ROUND, kills - before)):
            chaos.strike(chance, progress)
        for client in chaos.clients:
            client.stop()
        took, wrong = chaos.rest()
        if wrong:
            say(f"FAILED in the round of seed {name}:")
            say("\n".join(f"  {each}" for each in wrong))
            return 1
        _count(chaos, progress, took, time.monotonic() - began_at)
        save(progress)
        say(f"{progress.kills:5} of {kills} kills: {progress.scans} scans accepted, 0 lost, 0 twice, 0 stuck")
    say(str(progress))
    return 0


def _count(chaos: Chaos, progress: Progress, took: float, seconds: float) -> None:
    now = states_of(chaos.clients)
    progress.states += now - chaos.counted
    chaos.counted = now
    progress.rounds += 1
    progress.seconds += seconds
    progress.longest_rest = max(progress.longest_rest, took)
    progress.scans = sum(progress.states.values())
    progress.tries += sum(client.tries for client in chaos.clients)
    progress.restarted += len(chaos.processes.ended_by_themselves)
    for client in chaos.clients:
        client.tries = 0
    for each in chaos.processes.ended_by_themselves:
        say(f"      ended by itself and was started again: {each}")
    chaos.processes.ended_by_themselves.clear()
