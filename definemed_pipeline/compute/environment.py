"""What every launcher tells a payload's process: how many threads its libraries may use, and when memory goes back to the system."""

MOST_FROM_HEAP = 32 << 20  # bytes of one allocation; the most that every glibc allows
MOST_KEPT = 256 << 20  # bytes that are free


def payload_environment(threads: int) -> dict[str, str]:
    """Return the environment that holds numpy, torch, polars, rayon and tokenizers to so many threads, and lets glibc keep freed memory.

    By default glibc gives a tensor of some MiB back when it is freed, and the next training step faults each page in again.
    """
    limit = str(threads)
    return {
        "OMP_NUM_THREADS": limit,
        "MKL_NUM_THREADS": limit,
        "POLARS_MAX_THREADS": limit,
        "RAYON_NUM_THREADS": limit,
        "TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true",
        "MALLOC_MMAP_THRESHOLD_": str(MOST_FROM_HEAP),
        "MALLOC_TRIM_THRESHOLD_": str(MOST_KEPT),
    }
