"""The report of a federation whose rounds were audited."""

from jaxinv.reports.flower.page import write_report as write_report
from jaxinv.reports.flower.verdict import examples_of as examples_of
from jaxinv.reports.flower.verdict import judge as judge
