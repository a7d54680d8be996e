"""Imitations of AWS, and a proxy before one of them."""

from support.aws_fixtures import ministack_server, moto_server, proxy

__all__ = ["ministack_server", "moto_server", "proxy"]
