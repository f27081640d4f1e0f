"""Chaos for as long as one likes: ``python -m tests.chaos --minutes 5``, or ``make soak``."""

import argparse
import contextlib
import io
import sys
import time
from collections import Counter
from random import randrange

import anyio

from tests.chaos.plan import Scenario
from tests.chaos.run import run
from tests.valkey_servers import PROGRAMS


def main() -> int:
    """Run one seed after the other, and say what has come of each and of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: 5)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a run (default: 30)")
    parser.add_argument(
        "--seed", type=int, default=randrange(10**6), help="of the first run; the next has one more"
    )
    parser.add_argument(
        "--engine",
        choices=PROGRAMS,
        help="two servers on an engine that fails too, which is this program; "
        "if not given, one that keeps all in memory",
    )
    parser.add_argument(
        "--cluster", action="store_true", help="let the engine be a cluster of six nodes"
    )
    options = parser.parse_args()
    if options.cluster and not options.engine:
        parser.error("--cluster needs an --engine")
    end = time.monotonic() + 60 * options.minutes
    counts: dict[str, Counter[str]] = {}
    failed: list[int] = []
    seed = options.seed
    while seed == options.seed or time.monotonic() < end:
        played = Scenario.drawn(seed, options.seconds)
        if options.engine:
            played = played.on_engine(PROGRAMS[options.engine], is_cluster=options.cluster)
        print(played, flush=True)
        printed = io.StringIO()  # by the servers; as much as they like
        with contextlib.redirect_stdout(printed):
            done = anyio.run(run, played)
        print(printed.getvalue() * bool(done.faults), done, sep="", flush=True)
        for name, found in done.counts.items():
            counts.setdefault(name, Counter()).update(found)
        failed += [seed] if done.faults else []
        seed += 1
    print(f"\n{seed - options.seed} runs:")
    for name, found in counts.items():
        print(f"  {name}: " + ", ".join(f"{kind} {found[kind]}" for kind in sorted(found)))
    if failed:
        again = f"--minutes 0 --seconds {options.seconds:g} --seed {failed[0]}"
        if options.engine:
            again += f" --engine {options.engine}" + " --cluster" * options.cluster
        print(f"FAILED with the seeds {failed}: make soak ARGS='{again}'")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
