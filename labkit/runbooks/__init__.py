"""Runbooks from outside: execute a notebook headless, rehearse all of them in a row."""
