"""Report: tables, plots, HTML and widgets."""
