"""Benchmarks with right answers: multiple-choice questions through lm-eval, and instructions whose answers rules can check."""
