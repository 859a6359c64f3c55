"""A small, faithful Kubernetes API server that keeps its objects in memory."""
