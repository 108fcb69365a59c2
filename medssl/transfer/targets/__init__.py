"""Targets: what is predicted. One file each."""
