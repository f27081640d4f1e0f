"""``python -m benchmarks``: measure, and write what came out."""

import json
import os
from pathlib import Path

import click

from .contenders import CONTENDERS
from .control import Pins
from .harness import Planned, plan, run
from .machine import describe, raise_file_limit
from .plot import draw
from .report import machine_lines, report
from .results import Results
from .trial import Options
from .workloads import WORKLOADS

__all__ = ["main"]


@click.command()
@click.option(
    "--workload", "-w", "workload_names", multiple=True, type=click.Choice(list(WORKLOADS)),
    help="Measure this one; may be repeated. All, if not given.",
)  # fmt: skip
@click.option(
    "--contender", "-c", "contenders", multiple=True, type=click.Choice(list(CONTENDERS)),
    help="Measure this one; may be repeated. All, if not given.",
)  # fmt: skip
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="How often each is measured; else as each workload says.",
)
@click.option("--quick", is_flag=True, help="One round of small workloads: a look, not a result.")
@click.option(
    "--pin/--no-pin", default=True, show_default=True,
    help="Keep servers on one core and clients on another.",
)  # fmt: skip
@click.option(
    "--output", default="build/benchmarks", show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report, the figures and the pictures.",
)  # fmt: skip
def main(
    workload_names: tuple[str, ...],
    contenders: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    pin: bool,
    output: Path,
) -> None:
    """Measure how asgi_notify, its peers and a loop written by hand send to many clients."""
    raise_file_limit()
    machine = describe()
    click.echo("\n".join(machine_lines(machine)))
    workloads = [WORKLOADS[name] for name in workload_names or WORKLOADS]
    planned, results = plan(workloads, contenders, rounds or (1 if quick else None), quick)
    options = Options(is_quick=quick, pins=Pins(pin))
    with click.progressbar(
        length=len(planned), label="Measuring", item_show_func=_shown, show_pos=True
    ) as bar:
        run(planned, results, options, progress=lambda trial: bar.update(1, trial))
    machine["load average at the end"] = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    _write(output, report(workloads, results, machine, quick), results, machine)


def _shown(trial: Planned | None) -> str | None:
    return f"{trial.workload.name}: {trial.contender.title}" if trial else None


def _write(output: Path, text: str, results: Results, machine: dict[str, str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine, **results.as_json()}
    (output / "report.md").write_text(text)
    (output / "figures.json").write_text(json.dumps(figures, indent=1))
    click.echo(f"\n{text}\nWritten to {output}/: report.md, figures.json", nl=False)
    pictures = draw(results, output)
    names = pictures if isinstance(pictures, str) else ", ".join(file.name for file in pictures)
    click.echo(f". No pictures: {names}." if isinstance(pictures, str) else f", {names}.")


if __name__ == "__main__":
    main()
