"""Errors of Ray as text for messages."""

import re

import ray


def first_line(error: BaseException) -> str:
    """Return an error of Ray in one line: the cause in the worker and its place, or the first line of Ray's text."""
    cause, place = getattr(error, "cause", None), ""
    if isinstance(error, ray.exceptions.RayTaskError) and cause is not None:
        frames = re.findall(r'File "([^"\n]+)", (line [0-9]+)', str(error))
        place = " ({}, {})".format(*frames[-1]) if frames else ""
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if isinstance(error, ray.exceptions.RayActorError):
        return "its process died"
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + place
