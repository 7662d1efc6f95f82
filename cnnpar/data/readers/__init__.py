"""Readers of files, one a format: each returns uint8 images and integer labels, or raises InputError."""
