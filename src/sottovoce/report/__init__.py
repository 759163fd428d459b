"""The report: what runs cost and keep, on one page that needs neither network nor script."""

from sottovoce.report.page import report, write_report

__all__ = ["report", "write_report"]
