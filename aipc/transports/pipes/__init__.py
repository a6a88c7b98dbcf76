"""Pipes and FIFOs."""
