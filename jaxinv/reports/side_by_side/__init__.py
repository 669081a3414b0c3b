"""Reports of several runs on one page, for `jaxinv report`."""

from jaxinv.reports.side_by_side.page import FILES as FILES
from jaxinv.reports.side_by_side.page import write_comparison as write_comparison
from jaxinv.reports.side_by_side.reading import read_reports as read_reports
