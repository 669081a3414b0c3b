"""The report of an audit of a recommender."""

from jaxinv.reports.recommender.page import render as render
from jaxinv.reports.recommender.page import write_report as write_report
from jaxinv.reports.recommender.verdict import judge as judge
