"""A task queue whose brokers, result backends and serializers are plugins, chosen by the scheme of a URL."""
