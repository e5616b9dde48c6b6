"""What every launcher tells a payload's process: how many threads its libraries may use."""


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment that holds numpy, torch, polars, rayon and tokenizers to so many threads."""
    limit = str(threads)
    return {
        "OMP_NUM_THREADS": limit,
        "MKL_NUM_THREADS": limit,
        "POLARS_MAX_THREADS": limit,
        "RAYON_NUM_THREADS": limit,
        "TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true",
    }
