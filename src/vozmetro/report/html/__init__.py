"""The report as one HTML file that opens offline: both languages, both themes, vector figures.

`text` holds words in both languages, `blocks` what a page is made of, `svg` the canvas of its
figures and `maker` what makes them; `run`, `figures`, `background`, `quality` and `floors` say what
is shown, with the rows that all reports share; `page` puts it into the template.
"""
