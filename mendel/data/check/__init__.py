"""What is wrong with a file of labelled texts, found before anything is trained on it.

    path --read_rows--> Rows --checks--> Finding, Finding, ... --> Report

A finding says what, how often, where, why it matters and what to do. What is personal or secret is
masked before it is put into one, so that no report can show it.
"""

from mendel.data.check.examine import check_data
from mendel.data.check.report import Example, Finding, Report

__all__ = ["Example", "Finding", "Report", "check_data"]
