"""The report of an audit of an update."""

from jaxinv.reports.update.page import render as render
from jaxinv.reports.update.page import write_report as write_report
from jaxinv.reports.update.verdict import judge as judge
