"""Prometheus metrics for queuekit: of workers, served by their supervisor, and of queues, by ``queuekit metrics``."""
