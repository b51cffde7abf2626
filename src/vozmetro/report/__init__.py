"""Reports: terminal, Markdown, plots. Nothing is computed here that judge does not give."""
