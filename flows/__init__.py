"""Prefect flows: thin. Each one carries out an operation of coalmine, every step of it as a task."""
