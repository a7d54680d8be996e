"""An application of Django for these tests."""
