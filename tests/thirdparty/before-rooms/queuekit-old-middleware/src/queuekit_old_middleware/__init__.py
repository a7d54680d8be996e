"""A middleware for queuekit: old-middleware."""
