"""A serializer for queuekit: old-serializer."""
