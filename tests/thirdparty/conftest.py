"""Plugins as third parties would write them: distributions of their own, tested in tox environments of their own."""

collect_ignore_glob = ["*"]
