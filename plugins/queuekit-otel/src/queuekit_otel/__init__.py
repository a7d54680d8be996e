"""OpenTelemetry for queuekit: spans and metrics of sends and runs, by the semantic conventions for messaging."""
