"""Figures of the same round set against one another: what is quoted of a benchmark."""

from dataclasses import dataclass, replace
from operator import sub, truediv
from typing import Literal

from .results import Results
from .statistics import Spread, spread

__all__ = ["Figure", "How", "Ratio", "compare"]

How = Literal["ratio", "difference"]


@dataclass(frozen=True)
class Figure:
    """One figure of one contender in one case of a workload."""

    workload: str
    case: str
    contender: str
    name: str

    def of(self, results: Results) -> dict[int, float]:
        """Its values by round; a trial in which nothing came has none."""
        rounds = results.rounds(self.workload, self.case, self.contender)
        return {number: row[self.name] for number, row in rounds.items() if self.name in row}


@dataclass(frozen=True)
class Ratio:
    """A column of a table: a figure over that of another contender or another case.

    Args:
        title: of the column.
        name: of the figure.
        contender: whose figure it is set against; the row's own where None.
        case: in which case; the row's own where None.
        how: divide by it, or take it away.
    """

    title: str
    name: str
    contender: str | None = None
    case: str | None = None
    how: How = "ratio"

    def of(self, workload: str, case: str, contender: str, results: Results) -> Spread | None:
        """What stands in one row of the column."""
        own = Figure(workload, case, contender, self.name)
        base = replace(own, case=self.case or case, contender=self.contender or contender)
        return compare(own, base, self.how, results) if own != base else None


def compare(figure: Figure, base: Figure | None, how: How, results: Results) -> Spread | None:
    """The figure against its base, round by round; None where there is no such round."""
    values = figure.of(results)
    if base is None:
        return spread(list(values.values()))
    bases = base.of(results)
    operation = sub if how == "difference" else truediv
    both = [number for number in values if bases.get(number)]
    return spread([operation(values[number], bases[number]) for number in both])
