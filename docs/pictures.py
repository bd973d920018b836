"""Draw the picture of the README from stored results: `python docs/pictures.py`, after `make quickstart`."""

import io
import re
from pathlib import Path

from rich.console import Console

from orchestrator import api

WIDTH = 104


def main() -> None:
    """Write docs/quickstart.svg."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(api.table_page(api.stored_results("quickstart", Path("results")), width=WIDTH))
    svg = console.export_svg(title="ablate table quickstart")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture must not call home for its letters
    Path(__file__).with_name("quickstart.svg").write_text(svg.replace("Fira Code", "DejaVu Sans Mono"))


if __name__ == "__main__":
    main()
