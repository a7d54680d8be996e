"""Goods, orders and letters."""
