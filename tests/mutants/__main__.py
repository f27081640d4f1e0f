"""Change one small thing in the code at a time, and see whether a test notices.

``python -m tests.mutants`` tries every mutant, which takes hours;
``--sample 100`` tries that many, drawn at random; a FILE, a FILE:LINE or a folder those there.
"""

import argparse
import compileall
import os
import py_compile
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random, randrange

from tests.mutants.mutations import Mutant, mutants
from tests.mutants.reach import reach
from tests.mutants.trial import Outcome, prepare, run_tests

ROOT = Path(__file__).parents[2]
PLACES = [f"asgi_notify/{folder}" for folder in ("client", "protocol", "consumers", "layers")]
TESTS = [
    "tests/layers", "tests/consumers", "tests/client",
    "tests/test_protocol.py", "tests/test_positions.py", "tests/test_hub_model.py",
]  # fmt: skip
KNOWN = Path(__file__).with_name("survivors.toml")
ALL_TESTS_LIMIT = 1800  # seconds of CPU
COPIED = ["asgi_notify", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "README.md"]
LEFT_OUT = shutil.ignore_patterns("__pycache__", "mutants")


def drawn(places: list[str], sample: int | None, seed: int, root: Path = ROOT) -> list[Mutant]:
    """Return the mutants of these places, or as many as the sample has of them."""
    made: list[Mutant] = []
    for place in places:
        path, _, line = place.partition(":")
        found = root / path
        for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            of_file = mutants(str(file.relative_to(root)), file.read_text())
            made += [mutant for mutant in of_file if line in ("", str(mutant.line))]
    print(f"{len(made)} mutants in {', '.join(places)}")
    if sample is None or sample >= len(made):
        return made
    print(f"a sample of {sample} of them, with the seed {seed}")
    chosen = sorted(Random(seed).sample(range(len(made)), sample))
    return [made[index] for index in chosen]


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """Copy the project to a temporary folder, so that its own files never change."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder).resolve() / "project"
        copy.mkdir()
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=LEFT_OUT)
            elif source.exists():
                shutil.copy(source, copy / name)
        # A file's hash, unlike its time and size, tells each mutant of it from the others.
        by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(copy / "asgi_notify", quiet=1, invalidation_mode=by_hash)
        yield copy


def tried(mutant: Mutant, copy: Path, named: list[str], reached: dict[str, float] | None) -> str:
    """Return what noticed the mutant, or an empty string where it survived.

    Args:
        mutant: what is tried.
        copy: where it is.
        named: the files or tests to run, where the reach is not known.
        reached: the tests that run the mutant's line.
    """
    if reached is not None:
        named = sorted({test.partition("::")[0] for test in reached})
    seconds = ALL_TESTS_LIMIT if reached is None else 10 + 3 * sum(reached.values())
    file = copy / mutant.path
    text = file.read_text()
    file.write_text(mutant.text)
    try:
        outcome = run_tests(copy, named, reached, seconds) if named else Outcome()
    finally:
        file.write_text(text)
    if outcome.failed:
        return outcome.failed[0]
    return "" if outcome.ended == "ok" else outcome.ended


def reasons(chosen: list[Mutant]) -> dict[Mutant, str]:
    """Return why some of these mutants may survive, and say what is no reason any more."""
    written = tomllib.loads(KNOWN.read_text())["survivor"]
    known = {(one["file"], one["was"], one["now"]): one["why"] for one in written}
    for path in {path for path, _, _ in known}:
        text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        there = {(mutant.path, mutant.was, mutant.now) for mutant in mutants(path, text)}
        for one in known:
            if one[0] == path and one not in there:
                print(f"{KNOWN.name} tells of what is no mutant any more: {one}")
    keys = {mutant: (mutant.path, mutant.was, mutant.now) for mutant in chosen}
    return {mutant: known[key] for mutant, key in keys.items() if key in known}


def main() -> int:
    """Try mutants, print each and what noticed it, and at the end those that nothing did."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("places", nargs="*", metavar="FILE", help=f"default: {' '.join(PLACES)}")
    parser.add_argument("--sample", type=int, metavar="N", help="try N mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=randrange(10**6), help="of the sample")
    parser.add_argument("--list", action="store_true", help="print the mutants, and try none")
    parser.add_argument(
        "--tests", action="append", metavar="TEST",
        help="run this test rather than all that reach the mutant's line; may be repeated",
    )  # fmt: skip
    options = parser.parse_args()
    chosen = drawn(options.places or PLACES, options.sample, options.seed)
    if not chosen:
        parser.error("there is no mutant")
    if options.list:
        print(*chosen, sep="\n")
        return 0
    known = reasons(chosen)
    os.nice(19)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # removes the copy, ends the child
    prepare()
    survivors: list[Mutant] = []
    counts: Counter[str] = Counter()
    with copied() as copy:
        found = None if options.tests else reach(copy, TESTS, ALL_TESTS_LIMIT)
        if options.tests:  # one that fails anyway would kill them all
            outcome = run_tests(copy, options.tests, None, ALL_TESTS_LIMIT)
            if outcome.failed or outcome.ended != "ok":
                parser.error(f"without any mutant: {outcome.failed or outcome.ended}")
        for number, mutant in enumerate(chosen, 1):
            start = time.monotonic()
            reached = found.of(mutant.path, mutant.reached_by) if found is not None else None
            noticed = tried(mutant, copy, options.tests or [], reached)
            fate = "killed" if noticed else "known" if mutant in known else "SURVIVED"
            why = noticed or known.get(mutant) or ("no test runs it" if reached == {} else "")
            counts[fate] += 1
            survivors += [mutant] if fate == "SURVIVED" else []
            took = time.monotonic() - start
            print(f"{number:>4} {fate:<8} {took:5.1f} s  {mutant}", flush=True)
            if why:
                print(f"      why  {why}", flush=True)
    print(f"\nOf {len(chosen)} mutants {counts['killed']} were killed; {counts['known']} survived")
    print(
        f"as {KNOWN.name} says, and {len(survivors)} ({len(survivors) / len(chosen):.1%}) beside:\n"
    )
    print(*survivors, sep="\n")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
