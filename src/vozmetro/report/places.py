"""Names of the files of a report in its folder."""

REPORT = "report.md"
HTML = "report.html"
PLOTS = "plots"
