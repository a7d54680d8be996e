"""A backend for queuekit: old-backend."""
