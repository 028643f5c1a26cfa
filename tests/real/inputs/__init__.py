"""Inputs of the real programs: made here, the same bytes on every machine."""
