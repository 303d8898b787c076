"""Takes README's picture of the page, from a running demo: ``python tests/support/picture.py URL docs/page.png``."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

#: A README is read by everybody who clones.
BYTES_MAX = 300_000


def take(url: str, path: Path) -> None:
    """The page as it opens, with the reasons of the first entry shown.

    Raises:
        ValueError: the picture is too large for a README.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(url)
        page.locator("#feed article").nth(4).wait_for()
        page.get_by_role("switch", name="Live").click()
        page.locator("#feed article").first.get_by_role("button", name="Why").click()
        page.wait_for_timeout(1000)
        page.screenshot(path=path, animations="disabled")
        browser.close()
    if path.stat().st_size > BYTES_MAX:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {BYTES_MAX:,}")


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
