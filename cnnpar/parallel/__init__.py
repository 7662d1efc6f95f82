"""The engine: cut a batch into spans, have workers compute them, add the results up in one fixed order.

Only this folder may import ray, and only `attach.py`, `cluster.py`, `actor.py` and `ray_store.py` do.
"""
