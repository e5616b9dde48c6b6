"""Payloads as Kubernetes `batch/v1` Jobs: one Job per attempt, found again by whoever is asked for the same work."""
