"""Figures from finished cells and exhibits, as PNG and PDF: one file here draws one figure."""

from hahbench.reports.figures.write import write_figures

__all__ = ["write_figures"]
