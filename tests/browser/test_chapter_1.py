"""A new learner opens chapter 1: Run All, move a slider, and answer an exercise.

Wrongly, not at all, and rightly.
"""

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

CODE = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell"
TRACEBACK = "Traceback (most recent call last)"


def shot(page, name):
    if folder := os.environ.get("SHOTS"):  # SHOTS=folder make test-browser keeps the screenshots
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def settled(page, seconds):
    """Wait until every code cell has its number, or one raised."""
    page.wait_for_function(
        """([sel, trace]) => {
            const texts = css => [...document.querySelectorAll(css)].map(e => e.textContent);
            const prompts = texts(sel + ' .jp-InputPrompt');
            const raised = texts('.jp-RenderedText').some(t => t.includes(trace));
            return raised || (prompts.length && prompts.every(t => /\\[\\d+\\]/.test(t)));
        }""", arg=[CODE, TRACEBACK], timeout=seconds * 1000)


def test_run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    settled(page, 400)
    raised = page.locator(".jp-RenderedText").filter(has_text=TRACEBACK)
    assert raised.count() == 0, raised.first.inner_text()[-500:]
    assert page.locator("mjx-container").count() > 20  # formulas are set
    pictures = page.locator(".jp-RenderedHTML img")
    assert pictures.count() >= 12 and all(len(p.get_attribute("alt")) > 20 for p in pictures.all())
    assert page.offsite == [], "the chapter asks the network for something"
    shot(page, "1_run_all")


def test_the_live_picture_stands_alone(page):
    """The still one, there for readers without a kernel, steps aside, and with it its caption."""
    cells = page.locator(CODE).filter(has=page.locator(".minigen-explore"))
    assert cells.count() == 2
    for cell in cells.all():
        (seen,) = [p for p in cell.locator("img").all() if p.is_visible()]
        assert seen.get_attribute("alt").startswith("The picture for ")
        outputs = cell.locator(".jp-OutputArea-output").all()
        (live,) = [o for o in outputs if o.is_visible() and o.inner_text().strip()]
        assert live.locator(".minigen-explore").count() == 1


def test_the_sliders_have_room(page):
    for track in page.locator(".minigen-explore .widget-slider .noUi-target").all():
        assert track.bounding_box()["width"] >= 150


def test_the_controls_can_be_told_without_seeing_them(page):
    for slider in page.locator(".minigen-explore .widget-slider").all():
        label = slider.locator("label").inner_text()
        assert label and slider.get_by_role("slider", name=label, exact=True).count() == 1
        assert slider.get_by_role("textbox", name=f"{label}, as a number", exact=True).count() == 1
    boxes = page.get_by_role("group", name="A picture that follows ")
    assert boxes.count() == 2 and boxes.get_by_role("status").count() == 2


def test_no_serious_barrier_in_the_cells(page):
    """axe's rules on every cell, less the editor and the fold button of JupyterLab itself."""
    cells = {"include": [".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell"],
             "exclude": [".jp-CodeMirrorEditor", ".jp-collapseHeadingButton"]}
    found = Axe().run(page, context=cells).response
    assert found["passes"], "axe looked at nothing"
    grave = [v for v in found["violations"] if v["impact"] in ("critical", "serious")]
    assert [f"{v['id']}: {n['html'][:200]}" for v in grave for n in v["nodes"]] == []


def test_a_slider_changes_its_figure(page):
    image = page.locator(".minigen-explore img").first
    image.scroll_into_view_if_needed()
    before, size = image.get_attribute("src"), image.bounding_box()
    shot(page, "2_slider_before")
    track = page.locator(".widget-slider .noUi-target").first.bounding_box()
    handle = page.locator(".widget-slider .noUi-handle").first.bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * 0.8, handle["y"] + handle["height"] / 2, steps=8)
    page.mouse.up()
    changed = "old => document.querySelector('.minigen-explore img')?.src !== old"
    page.wait_for_function(changed, arg=before)
    page.wait_for_timeout(300)
    assert image.bounding_box() == size
    shot(page, "3_slider_after")


ANSWERS = {
    "empty": ("raise NotImplementedError", "g_loss: not attempted yet."),
    "wrong": ("return torch.log(1 - torch.sigmoid(fake_logits)).mean()",
              "g_loss: not yet. That is the minimax loss log(1 − D)"),
    "right": ("return F.softplus(-fake_logits).mean()", "g_loss: passed."),
}


def run_cell(page, cell, source=None):
    """Put a source into a cell and run it with Shift+Enter."""
    old = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    if source:
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")
    handle = cell.locator(".jp-InputPrompt").element_handle()
    ran = "([e, old]) => /\\[\\d+\\]/.test(e.textContent) && e.textContent !== old"
    page.wait_for_function(ran, arg=[handle, old])


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_get_different_messages(page, kind):
    body, message = ANSWERS[kind]
    answer = page.locator(CODE).filter(has_text="def g_loss(fake_logits)").first
    test = page.locator(CODE).filter(has_text="check(g_loss)").first
    run_cell(page, answer, f"def g_loss(fake_logits):\n    {body}")
    run_cell(page, test)
    assert message in test.locator(".jp-OutputArea").inner_text()
    shot(page, f"4_{kind}")


def test_a_stored_picture_has_its_words_where_nothing_runs(page):
    """Opened and not run, nothing is trusted, and JupyterLab cleans the HTML of outputs."""
    other = page.context.browser.new_page(viewport=page.viewport_size)
    address = page.url.replace("01_gan.ipynb", "stored.ipynb")
    other.goto(f"{address}?token={page.token}&reset")  # reset: no other tab
    pictures = other.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-RenderedHTML img")
    pictures.first.wait_for()
    assert pictures.count() == 1 and pictures.first.get_attribute("alt") == 'A "line" & its words.'
    assert pictures.first.evaluate("p => p.complete && p.naturalWidth") == 720
    shot(other, "5_stored")
    other.close()


def test_nothing_broke_on_the_way(page):
    assert page.crashes == []
