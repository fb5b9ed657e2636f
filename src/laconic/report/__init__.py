"""A run as one page to read: what changed, how sure that is, and samples to judge by."""

from laconic.report.page import write_report as write_report
from laconic.report.plots import save_diagnosis_picture as save_diagnosis_picture

__all__ = ["save_diagnosis_picture", "write_report"]
