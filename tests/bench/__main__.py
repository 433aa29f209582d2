"""Every bench, one after the other, each in a process of its own: `python -m tests.bench [name ...]`."""

import subprocess
import sys
from pathlib import Path

SECONDS = 600
ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    """Run them; 1 when one of them failed, 2 for a name that is none."""
    names = sys.argv[1:] or BENCHES
    if unknown := set(names) - set(BENCHES):
        print(f"no bench named {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        print(f"--  {name}", flush=True)
        argv = [sys.executable, "-m", f"tests.bench.bench_{name}"]
        failed += subprocess.run(argv, cwd=ROOT, timeout=SECONDS, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
