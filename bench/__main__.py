"""`python -m bench NAME ...` runs `bench/NAME.py`; without a name it lists them."""

import importlib
import sys
from pathlib import Path

NAMES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem != "__main__" and "def main(" in path.read_text(encoding="utf-8")
)


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name not in NAMES:
        print(f"usage: python -m bench {{{','.join(NAMES)}}} ...", file=sys.stderr)
        return 2
    return importlib.import_module(f"bench.{name}").main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
