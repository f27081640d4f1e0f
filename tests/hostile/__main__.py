"""Let one hostile client after the other loose on a server: ``python -m tests.hostile``.

It prints what each has cost, and fails where that is more than a server may take.
"""

import argparse
import sys
from dataclasses import dataclass

from tests.hostile.probes import PROBES, Attacker
from tests.hostile.victim import SERVERS, Victim
from tests.servers import ServerError

MIB = 1024 * 1024
MAX_GROWN = 30 * MIB  # bytes
MAX_WAIT = 0.5  # seconds until /healthz is answered


@dataclass(frozen=True)
class Cost:
    """What a probe has cost a server."""

    probe: str
    sent: int  # bytes
    grown: int  # bytes
    worst: float  # seconds
    stop: str

    def is_borne(self, max_wait: float = MAX_WAIT) -> bool:
        """Whether the server has come through it."""
        return self.grown < MAX_GROWN and self.worst < max_wait and self.is_stopped

    @property
    def is_stopped(self) -> bool:
        """Whether it has stopped as it should."""
        return self.stop.endswith(" s")

    def __str__(self) -> str:
        return (
            f"{self.probe:<18}{self.sent / 1e6:>9.2f} MB{self.grown / MIB:>10.1f} MiB"
            f"{self.worst:>9.2f} s   {self.stop}{'' if self.is_borne() else '   FAILED'}"
        )


def tried(kind: str, probe: str, size: int, seconds: float) -> Cost:
    """Let one probe loose on a server of its own."""
    with Victim(kind) as victim:
        attacker = Attacker(victim.port, size, seconds)
        try:
            sent = PROBES[probe](attacker)
            try:
                stop = victim.end()
            except ServerError as error:
                stop = str(error)
        finally:
            attacker.close()
    return Cost(probe, sent, victim.grown, victim.worst, stop)


def main() -> int:
    """Try what the command line names, and say what has come of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=main.__doc__)
    parser.add_argument("probes", nargs="*", metavar="PROBE", help=f"of {', '.join(PROBES)}")
    parser.add_argument("--server", action="append", choices=SERVERS, help="default: all but plain")
    parser.add_argument("--megabytes", type=float, default=200, help="to send at most (200)")
    parser.add_argument("--seconds", type=float, default=10, help="to send for at most (10)")
    options = parser.parse_args()
    if unknown := set(options.probes) - set(PROBES):
        parser.error(f"there is no probe {', '.join(sorted(unknown))}")
    failed = []
    for kind in options.server or ["serve", "uvicorn"]:
        print(f"\n{SERVERS[kind]}\n")
        print(f"{'probe':<18}{'sent':>12}{'grown':>14}{'/healthz':>11}   stop", flush=True)
        for probe in options.probes or PROBES:
            cost = tried(kind, probe, int(options.megabytes * 1e6), options.seconds)
            print(cost, flush=True)
            failed += [] if cost.is_borne() else [f"{kind}: {probe}"]
    if failed:
        print(f"\nFAILED: {'; '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
