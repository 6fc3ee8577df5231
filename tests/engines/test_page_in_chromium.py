"""The page in a real browser: nothing is refused, every part is drawn, values are read, it prints on A4."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.compare import page as compare_page
from launcher.compare.comparison import Side, compare
from launcher.page import run_page
from tests.launcher.compare.curves import curve, falling
from tests.launcher.runs_made import finished

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (apt-get install chromium)"),
]
A4 = (595, 842)  # points


def browse(page: Path, *options: str) -> str:
    """Load a page and return what `options` print, such as the document; fail on any line of the console."""
    words = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={page.parent / 'profile'}", "--window-size=1000,900", "--virtual-time-budget=2000",
        *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, timeout=120, check=True)
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line]
    assert not said
    return done.stdout.decode()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return run_page.write(finished(folder, ranks=8, code=4), folder / "page.html")


def test_every_part_is_there_and_its_script_runs(page: Path) -> None:
    document = browse(page, "--dump-dom")
    assert document.count('<svg class="chart"') == 6 and document.count('<svg class="heat"') == 1
    assert document.count('<svg class="time"') == 1
    assert 'class="at"' in document and "data-text=" in document  # the script has taken the titles
    assert "<title>" not in document.split("<body>")[1]
    assert 'class="missing"' not in document


def test_the_page_of_a_run_that_ended_well(tmp_path: Path) -> None:
    document = browse(run_page.write(finished(tmp_path, ranks=4), tmp_path / "page.html"), "--dump-dom")
    assert "First errors" not in document and 'class="missing"' not in document
    assert document.count('<svg class="heat"') == 1 and "rank 1 costs the run 11 %" in document


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)])
def test_the_page_follows_the_theme_of_the_reader(page: Path, scheme: int, dark: bool) -> None:
    themed = page.parent / f"theme-{scheme}.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    read = (
        "var parts = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);"
        "var light = colour => parts(colour).reduce((sum, part) => sum + part, 0);"
        "var of = (part, what) => light(getComputedStyle(part)[what]);"
        "var all = Array.from(document.querySelectorAll('h1, td, svg text'), part => "
        "of(part, part.closest('svg') ? 'fill' : 'color'));"
        "var ground = of(document.body, 'backgroundColor');"
        "document.body.dataset.light = [ground, Math.min(...all), Math.max(...all)];"
    )
    themed.write_text(text.replace("</body>", f"<script>{read}</script></body>"))
    document = browse(themed, "--dump-dom", f"--blink-settings=preferredColorScheme={scheme}")
    found = re.search(r'data-light="([\d.]+),([\d.]+),([\d.]+)"', document)
    assert found
    ground, darkest, lightest = map(float, found.groups())
    assert (ground < 120 and darkest > ground + 150) if dark else (ground > 650 and lightest < ground - 150)


def test_the_policy_refuses_what_is_not_the_pages_own(page: Path) -> None:
    harmed = page.parent / "harmed.html"
    harmed.write_text(page.read_text().replace("<main>", '<main><script>document.title = "x"</script>'))
    with pytest.raises(AssertionError):
        browse(harmed, "--dump-dom")


def test_values_under_the_pointer_are_shown(page: Path) -> None:
    probe = page.parent / "probe.html"
    text = page.read_text()
    move = (
        "var row = document.querySelectorAll('svg.heat g path')[1], lies = row.getBoundingClientRect();"
        "row.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: lies.right - 2}));"
        "document.body.dataset.cell = document.getElementById('reading').textContent;"
        "var at = document.querySelectorAll('svg .at')[3], box = at.getBoundingClientRect();"
        "at.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: box.x, clientY: 90}));"
        "document.body.dataset.read = document.getElementById('reading').textContent;"
    )
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probe.write_text(text.replace("</body>", f"<script>{move}</script></body>"))
    document = browse(probe, "--dump-dom")
    cell = re.search(r'data-cell="([^"]*)"', document)
    assert cell and re.match(r"rank \d, step \d+: 0\.\d+\n", cell.group(1))
    found = re.search(r'data-read="([^"]*)"', document)
    assert found and "step 20" in found.group(1) and "loss: 0.4" in found.group(1)


def test_it_prints_on_a4_and_nothing_is_wider(page: Path) -> None:
    pdf = page.parent / "page.pdf"
    browse(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", pdf.read_bytes())
    assert boxes and all((round(float(x)), round(float(y))) == A4 for x, y in boxes)
    wide = page.parent / "wide.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    measure = (
        "var all = Array.from(document.querySelectorAll('table, svg, pre, main'), part => part.scrollWidth);"
        "document.body.dataset.wide = Math.max(document.documentElement.scrollWidth, ...all);"
    )
    style = "<style>html { width: 687px; } main { padding: 0; }</style>"  # 182 mm between the margins
    wide.write_text(text.replace("</body>", f"{style}<script>{measure}</script></body>"))
    found = re.search(r'data-wide="(\d+)"', browse(wide, "--dump-dom", "--window-size=687,900"))
    assert found and int(found.group(1)) <= 687


def test_a_comparison_is_drawn_by_the_same_script_and_policy(tmp_path: Path) -> None:
    sides = [Side(name, "a run", curve(falling(40), rate_is="global")) for name in "AB"]
    page = tmp_path / "compare.html"
    page.write_text(compare_page.render([compare(sides[:1], sides[1])]))
    document = browse(page, "--dump-dom")
    assert document.count('<svg class="chart"') == 2 and "data-text=" in document
    assert "B against A: pass" in document
