"""One client for OpenAI-compatible chat endpoints: bounded concurrency, retries, a cache of answers, accounting.

What is asked, and what an answer means, belongs to the work packages.
"""
