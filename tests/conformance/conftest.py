"""Servers for the suites."""

from support.aws_fixtures import ministack_server, moto_in_turn, moto_server
from support.redis_fixtures import redis_cluster, redis_pair

__all__ = ["ministack_server", "moto_in_turn", "moto_server", "redis_cluster", "redis_pair"]
