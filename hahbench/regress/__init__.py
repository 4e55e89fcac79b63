"""Regression checks: what was measured once, what is measured now, and whether the difference is more than chance."""
