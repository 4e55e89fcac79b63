"""Reports from finished cells: leaderboard and tables, as Markdown to read and CSV to compute with."""

from hahbench.reports.write import write_reports

__all__ = ["write_reports"]
