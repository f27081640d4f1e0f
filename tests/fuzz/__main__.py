"""Feed the targets with inputs that reach new code, for minutes: ``python -m tests.fuzz``.

What is found is written to ``build/fuzz/found``, and the inputs that reached new code to
``build/fuzz/reached``. Once a finding is mended, put its input into ``tests/fuzz/corpus/TARGET``,
where every run of the tests tries it. Needs atheris: ``pip install 'asgi-notify[fuzz]'``.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
OUTPUT = ROOT / "build" / "fuzz"
LONGEST = 4096  # bytes of an input


def main() -> None:
    """Fuzz each target in a process of its own, one after the other."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of them together")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    options = parser.parse_args()
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"there is no {min(unknown)!r}; there are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    seconds = max(1, int(60 * options.minutes / len(names)))
    failed = [name for name in names if not _fuzz(name, seconds, options.seed)]
    if failed:
        sys.exit(f"found something in {', '.join(failed)}; the inputs are in {OUTPUT / 'found'}")


def _fuzz(name: str, seconds: int, seed: int) -> bool:
    """Fuzz one target; return whether nothing was found."""
    found, reached = OUTPUT / "found" / name, OUTPUT / "reached" / name
    for folder in found, reached, CORPUS / name:
        folder.mkdir(parents=True, exist_ok=True)
    print(f"== {name}, {seconds} s", flush=True)
    limits = [f"-max_total_time={seconds}", "-timeout=30", f"-max_len={LONGEST}", f"-seed={seed}"]
    words = ["-print_final_stats=1", "-verbosity=0", *limits, f"-artifact_prefix={found}/"]
    folders = [str(reached), str(CORPUS / name)]
    command = [sys.executable, "-m", "tests.fuzz.one", name, *words, *folders]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=False).returncode == 0


if __name__ == "__main__":
    main()
