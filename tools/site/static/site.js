/* What is wider than its column scrolls by itself; a keyboard must be able to get there. */
const WIDE = ".pst-scrollable-table-container, mjx-container[display], div.math, pre, .text_html";

function stops() {
  for (const box of document.querySelectorAll(WIDE)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

window.addEventListener("load", () => {
  const set = window.MathJax?.startup?.promise ?? Promise.resolve();
  set.then(stops);
  new ResizeObserver(stops).observe(document.body);
});
