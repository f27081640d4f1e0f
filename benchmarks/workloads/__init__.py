"""What is measured: one file for each workload."""

from . import (
    blocking,
    burst,
    churn,
    layer,
    many_groups,
    paced,
    private,
    processes,
    scale,
    slow_readers,
)
from .base import Workload

__all__ = ["WORKLOADS", "Workload"]

WORKLOADS: dict[str, Workload] = {
    module.WORKLOAD.name: module.WORKLOAD
    for module in (
        burst,
        paced,
        private,
        many_groups,
        slow_readers,
        scale,
        churn,
        blocking,
        layer,
        processes,
    )
}
