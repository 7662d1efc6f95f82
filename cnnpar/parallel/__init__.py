"""The engine: cut a batch into spans, have workers compute them, add the results up in one fixed order.

It knows vectors, not layers. Only `on_ray/` imports ray.
"""
