"""Tasks for :mod:`flow_bench`: they do next to nothing, so that what is measured is the workflow."""

from queuekit import Queuekit

app = Queuekit()


@app.task
def add(x: int, y: int) -> int:
    """Be a member, or a link."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """Be a callback."""
    return sum(numbers)
