"""One HTML file that shows what a conversion did to a model: for a person, readable anywhere, nothing loaded from
elsewhere."""

from converters.report.content import ReportContent
from converters.report.page import write_report

__all__ = ["ReportContent", "write_report"]
