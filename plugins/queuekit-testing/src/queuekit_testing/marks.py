"""What the tests of the suites say of themselves: read by the plugin of pytest, which needs no suite for that."""

from __future__ import annotations

__all__ = [
    "ABOUT",
    "ABOVE_LEVEL",
    "AREA",
    "KEPT",
    "LEVEL",
    "NEWEST_LEVEL",
    "NOT_DECLARED",
    "NOT_PROVED",
    "PROBED",
    "REPORT",
]

NEWEST_LEVEL = 1
"""The highest ``KIT_LEVEL``. A release that adds tests raises it and marks them with :func:`since`."""
NOT_DECLARED = "capability not declared: "
"""Start of the reason for a skip."""
NOT_PROVED = "not proved here (emulator): "
"""Start of the reason for an expected failure."""
ABOVE_LEVEL = "above KIT_LEVEL: "
"""Start of the reason for a skip that a higher ``KIT_LEVEL`` removes."""
LEVEL = "queuekit_level"
"""Report property: the suite's level."""
AREA = "queuekit_area"
"""Report property: the module of the suites that defines the test."""
ABOUT = "queuekit_about"
"""Report property: what the suite ran against."""
KEPT = "queuekit_kept"
"""Report property: a value that came back although ``KEEPS`` does not name it."""
REPORT = "--queuekit-conformance-report"
"""Option that adds area and subject to the reports and writes the results to a file."""
PROBED: dict[tuple[str, str], bool] = {}
"""Whether all probes of an undeclared capability passed so far, by suite and capability: then its other tests run."""
