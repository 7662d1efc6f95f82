"""Readers of files: each turns one kind of file into uint8 images and integer labels, or names what is wrong."""
