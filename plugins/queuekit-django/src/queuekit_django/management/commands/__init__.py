"""Commands of ``manage.py``: ``queuekit``."""
