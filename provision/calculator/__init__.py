"""The lab's calculator: the services themselves (``service.py``, which runs alone on any Python 3.9+)."""
