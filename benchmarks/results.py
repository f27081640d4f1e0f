"""What was measured, trial by trial, and why something was not."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Figures", "Result", "Results"]

Figures = dict[str, float]
"""What was measured, by name; the unit is the end of the name."""


@dataclass(frozen=True)
class Result:
    """What one trial has measured in one case."""

    workload: str
    case: str
    contender: str
    round: int
    figures: Figures


@dataclass
class Results:
    """All that was measured.

    Attributes:
        skipped: why something was not, by workload and contender.
    """

    measured: list[Result] = field(default_factory=list)
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)

    def rounds(self, workload: str, case: str, contender: str) -> dict[int, Figures]:
        """The figures of each round."""
        key = (workload, case, contender)
        return {
            result.round: result.figures
            for result in self.measured
            if (result.workload, result.case, result.contender) == key
        }

    def cases(self, workload: str) -> list[str]:
        """The cases of a workload, in the order in which they were measured."""
        return list(dict.fromkeys(r.case for r in self.measured if r.workload == workload))

    def contenders(self, workload: str) -> list[str]:
        """Who has figures in a workload, in the order in which they were measured."""
        return list(dict.fromkeys(r.contender for r in self.measured if r.workload == workload))

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {
            "measured": [asdict(result) for result in self.measured],
            "skipped": [
                {"workload": workload, "contender": contender, "reason": reason}
                for (workload, contender), reason in self.skipped.items()
            ],
        }
