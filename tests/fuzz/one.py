"""One target under atheris: ``python -m tests.fuzz.one TARGET [libFuzzer's options]``."""

import sys


def main() -> None:
    """Instrument the package, and fuzz until something is found or the time is over."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing needs atheris: pip install 'asgi-notify[fuzz]'")
    with atheris.instrument_imports(include=["asgi_notify"]):
        from tests.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
