"""A module that tells what it was started as, waits until standard input closes where it is told to, and ends as it is told to."""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    told = {
        "title": Path("/proc/self/cmdline").read_bytes().replace(b"\0", b" ").split()[1:],
        "name": __name__,
        "spec": __spec__.name,
        "arguments": sys.argv[1:],
        "word": os.environ.get("WORD"),
        "folder": os.getcwd(),
        "home": os.environ.get("HOME"),
        "group": os.getpgid(0),
        "imported": "torch" in sys.modules,
    }
    print(json.dumps(told, default=bytes.decode), flush=True)
    print("said as an error", file=sys.stderr, flush=True)
    if "WAIT" in os.environ:
        sys.stdin.read()
        print("standard input closed", flush=True)
    sys.exit(int(os.environ.get("STATUS", "0")))
