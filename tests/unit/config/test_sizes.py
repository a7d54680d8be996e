"""Amounts of memory as people write them."""

import pytest

from queuekit.config import sizes


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        ("1", 1),
        (" 500MB ", 500_000_000),
        ("500 mb", 500_000_000),
        ("1.5GiB", 1_610_612_736),
        ("64KiB", 65_536),
        ("2kB", 2_000),
        ("7B", 7),
    ],
    ids=repr,
)
def test_reads_what_people_write(written: object, size: int) -> None:
    """With units of both kinds, in any case."""
    assert sizes.parse(written) == size


@pytest.mark.parametrize("written", ["", "MB", "-1MB", "1TB", "1e3", "0", "0.1B", 0, -5, 1.5, True, None], ids=repr)
def test_refuses_what_is_no_size(written: object) -> None:
    """Saying what would be one."""
    with pytest.raises(ValueError, match="expected bytes, or a size such as 500MB"):
        sizes.parse(written)


@pytest.mark.parametrize(
    ("size", "text"), [(500_000_000, "500MB"), (1_610_612_736, "1536MiB"), (2_000, "2kB"), (999, "999B")], ids=str
)
def test_writes_what_it_reads(size: int, text: str) -> None:
    """In the largest unit that fits."""
    assert sizes.format(size) == text
    assert sizes.parse(text) == size
