"""Names of the files of a report in its folder."""

REPORT = "report.md"
PLOTS = "plots"
