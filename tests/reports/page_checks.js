// Appended to a copy of a report: uses the page as a reader does and leaves what it saw in an element that the caller
// finds in the document.
(() => {
  const rows = [...document.querySelectorAll('tr.clause')];
  const shown = () => rows.filter((row) => !row.hidden);
  const tiles = [...document.querySelectorAll('.tiles button')];
  const filter = document.getElementById('filter');
  const seen = {tiles: {}, rows: {}, pressed: {}, states: [], failures: []};
  for (const tile of tiles) {
    const verdict = tile.dataset.verdict;
    seen.tiles[verdict] = Number(tile.querySelector('b').textContent);
    tile.click();
    seen.rows[verdict] = shown().length;
    seen.pressed[verdict] = tile.getAttribute('aria-pressed') === 'true' && shown().every((row) => row.dataset.verdict === verdict);
    tile.click();
  }
  seen.all = shown().length;
  filter.value = 'dat-size';
  filter.dispatchEvent(new Event('input'));
  seen.filtered = shown().map((row) => row.querySelector('td.id').textContent);
  filter.value = 'no such clause';
  filter.dispatchEvent(new Event('input'));
  seen.nothing = shown().length;
  filter.value = '';
  filter.dispatchEvent(new Event('input'));
  seen.again = shown().length;
  const diagram = document.getElementById('diagram');
  if (diagram) {
    seen.states = [...diagram.querySelectorAll('text')].map((text) => text.textContent);
    seen.arcs = diagram.querySelectorAll('line').length;
    seen.gone = diagram.querySelectorAll('line.gone').length;
  }
  seen.failures = [...document.querySelectorAll('.failure code')].map((code) => code.textContent);
  seen.scripts = [...document.querySelectorAll('.failure pre')].map((pre) => pre.textContent);
  // Nothing stands outside the page at a common width.
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = document.createElement('div');
  out.id = 'seen';
  out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
  document.body.append(out);
})();
