"""The report of a comparison of defences."""

from jaxinv.reports.defenses.page import render as render
from jaxinv.reports.defenses.page import write_report as write_report
from jaxinv.reports.defenses.verdict import judge as judge
