"""What `make bench` and `make notebooks` run."""
