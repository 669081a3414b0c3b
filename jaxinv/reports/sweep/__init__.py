"""The report of a sweep."""

from jaxinv.reports.sweep.page import write_report as write_report
from jaxinv.reports.sweep.verdict import judge as judge
