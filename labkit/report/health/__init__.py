"""The health report for people and machines: tables, plots, HTML, JUnit, Prometheus."""
