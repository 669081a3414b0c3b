"""The report of an audit of images."""

from jaxinv.reports.images.page import render as render
from jaxinv.reports.images.page import write_report as write_report
from jaxinv.reports.images.verdict import judge as judge
