"""The leaderboard and its models as pages that need nothing but a browser."""

from hahbench.reports.html.pages import write_pages

__all__ = ["write_pages"]
