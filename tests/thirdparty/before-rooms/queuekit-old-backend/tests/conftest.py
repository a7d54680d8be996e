"""What holds for all tests: the closing line of the conformance suites, to put into the README."""

pytest_plugins = ["queuekit.testing"]
