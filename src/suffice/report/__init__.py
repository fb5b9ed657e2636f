"""A run, or a comparison of several, as one page to read: what changed, how sure that is, and samples to judge by."""

from suffice.report.comparison import write_comparison as write_comparison
from suffice.report.page import write_report as write_report
from suffice.report.plots import save_diagnosis_picture as save_diagnosis_picture

__all__ = ["save_diagnosis_picture", "write_comparison", "write_report"]
