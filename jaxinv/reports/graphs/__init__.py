"""The report of an audit of graphs."""

from jaxinv.reports.graphs.page import render as render
from jaxinv.reports.graphs.page import write_report as write_report
from jaxinv.reports.graphs.verdict import judge as judge
