// Charts of the past are drawn by the node. This shows the values under the pointer or at the place the arrow keys have reached, in all charts
// at once, zooms into what is dragged over, and asks for newer values while nobody looks closer. Without it the charts are still pictures.
'use strict';
(() => {
  const box = document.getElementById('past');
  if (!box) return;
  const fixed = box.dataset.fixed !== undefined; // the answer to a question: the period is a part of it
  const keys = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };
  let at = -1, other = -1, dragging = false; // steps from the left; other is the end of what is chosen

  const figures = () => Array.from(box.querySelectorAll('figure.timed'));
  const dataOf = new WeakMap();
  function data(fig) {
    let d = dataOf.get(fig);
    if (!d) {
      const values = JSON.parse(fig.dataset.values || '[]') || [];
      d = { values, count: values.length ? values[0].length : 0, from: Number(fig.dataset.from), step: Number(fig.dataset.step), svg: fig.querySelector('.plot svg'), now: Array.from(fig.querySelectorAll('.legend i'), i => i.textContent) };
      dataOf.set(fig, d);
    }
    return d;
  }

  // Values are written as the node writes them.
  const grouped = v => Math.round(v).toLocaleString('en-US');
  const short = (v, units, k) => { let i = 0; while (v >= 999.5 && i < units.length - 1) { v /= k; i++; } return (v < 9.995 ? v.toFixed(2) : v < 99.95 ? v.toFixed(1) : v.toFixed(0)) + units[i]; };
  function text(v, unit) {
    if (v === null || v === undefined) return '–';
    if (unit === 'ms') return v <= 0 ? '–' : v < .095 ? (v * 1000).toFixed(0) + ' µs' : v < 9.95 ? v.toFixed(1) + ' ms' : v < 999.5 ? v.toFixed(0) + ' ms' : (v / 1000).toFixed(1) + ' s';
    if (unit === '%') return v > 0 && v < .01 ? '<1%' : v > .995 && v < 1 ? (Math.floor(v * 1000) / 10).toFixed(1) + '%' : (v * 100).toFixed(0) + '%';
    if (unit === 'B') return v < 1000 ? v.toFixed(0) + ' B' : short(v, [' B', ' kB', ' MB', ' GB', ' TB'], 1000);
    if (!unit && v === Math.trunc(v) && v < 1e6) return grouped(v);
    if (!unit && v < 9.95) return String(Number(v.toPrecision(3)));
    if (unit === '/s' && v > 0 && v < .05) return Number(v.toPrecision(1)) + unit;
    return (v < .05 ? '0' : v < 9.95 ? v.toFixed(1) : v < 1e6 ? grouped(v) : short(v, ['', 'k', 'M', 'G', 'T'], 1000)) + unit;
  }
  function moment(fig, step) {
    const d = data(fig);
    return new Date((d.from + step * d.step + Number(fig.dataset.offset) * 60) * 1000).toISOString().replace('T', ' ').slice(d.count * d.step > 86400 ? 5 : 11, 19);
  }
  // said is the time, and what is marked there.
  function said(fig) {
    const d = data(fig), near = (d.from + at * d.step);
    const marks = Array.from(fig.querySelectorAll('.mark')).filter(m => Math.abs(Number(m.dataset.at) - near) <= d.step * 1.5).map(m => m.dataset.text);
    return moment(fig, at) + (other >= 0 && other !== at ? ' – ' + moment(fig, other) : '') + (marks.length ? ' · ' + marks[0] : '');
  }

  function shape(svg, cls, d) {
    let el = svg.querySelector('.' + cls);
    if (!d) { if (el) el.remove(); return; }
    if (!el) {
      el = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      el.setAttribute('class', cls);
      svg.append(el);
    }
    el.setAttribute('d', d);
  }
  function show() {
    for (const fig of figures()) {
      const d = data(fig);
      if (!d.count) continue;
      const here = at >= 0 && at < d.count;
      shape(d.svg, 'cursor', here && `M${at * 10} 0V300`);
      shape(d.svg, 'chosen', here && other >= 0 && other !== at && `M${Math.min(at, other) * 10} 0H${Math.max(at, other) * 10}V300H${Math.min(at, other) * 10}Z`);
      fig.querySelectorAll('.legend i').forEach((el, i) => { el.textContent = here ? text(d.values[i][at], fig.dataset.unit) : d.now[i]; });
      fig.querySelector('.at').textContent = here ? said(fig) : '';
      const plot = fig.querySelector('.plot');
      if (here) {
        plot.setAttribute('aria-valuenow', at);
        plot.setAttribute('aria-valuetext', said(fig) + ': ' + Array.from(fig.querySelectorAll('.legend li'), li => li.textContent.trim().replace(/\s+/g, ' ')).join(', '));
      }
    }
  }
  function clear() { at = other = -1; dragging = false; show(); }
  function zoom(fig) {
    if (fixed) { clear(); return; }
    const d = data(fig);
    let from = Math.min(at, other), to = Math.max(at, other);
    if (other < 0 || from === to) { from = at - 10; to = at + 10; }
    from = Math.max(0, from);
    const url = new URL(location.href), least = 120;
    let a = d.from + from * d.step, b = d.from + Math.min(to, d.count - 1) * d.step;
    if (b - a < least) { const mid = (a + b) / 2; a = mid - least / 2; b = mid + least / 2; }
    const end = d.from + (d.count - 1) * d.step;
    if (b > end) { a -= b - end; b = end; }
    url.searchParams.delete('range');
    url.searchParams.set('from', Math.floor(a));
    url.searchParams.set('to', Math.floor(b));
    url.hash = 'past';
    location.href = url;
  }

  const stepAt = (fig, e) => { const d = data(fig), r = d.svg.getBoundingClientRect(); return Math.max(0, Math.min(d.count - 1, Math.round((e.clientX - r.left) / r.width * (d.count - 1)))); };
  const figureOf = e => { const plot = e.target.closest && e.target.closest('.plot'), fig = plot && plot.closest('figure.timed'); return fig && data(fig).count ? fig : null; };
  box.addEventListener('pointermove', e => {
    const fig = figureOf(e);
    if (!fig) { if (!dragging && !box.contains(document.activeElement)) clear(); return; }
    if (dragging) other = stepAt(fig, e); else { at = stepAt(fig, e); other = -1; }
    show();
  });
  box.addEventListener('pointerleave', () => { if (!dragging) clear(); });
  box.addEventListener('pointerdown', e => {
    const fig = figureOf(e);
    if (!fig || e.button !== 0) return;
    at = other = stepAt(fig, e);
    dragging = !fixed;
    if (dragging) fig.querySelector('.plot').setPointerCapture(e.pointerId);
    e.preventDefault();
    show();
  });
  box.addEventListener('pointerup', e => {
    const fig = figureOf(e);
    if (!dragging) return;
    dragging = false;
    if (fig && !fixed && Math.abs(at - other) >= 2) zoom(fig); else { other = -1; show(); }
  });
  box.addEventListener('pointercancel', clear);
  box.addEventListener('keydown', e => {
    const fig = figureOf(e);
    if (!fig) return;
    const d = data(fig);
    let to = e.shiftKey && other >= 0 ? other : at;
    if (to < 0) to = d.count - 1;
    if (e.key in keys) to = Math.max(0, Math.min(d.count - 1, (at < 0 ? to : to + keys[e.key])));
    else if (e.key === 'Home') to = 0;
    else if (e.key === 'End') to = d.count - 1;
    else if (e.key === 'Enter' && at >= 0) { zoom(fig); return; }
    else if (e.key === 'Escape') { clear(); return; }
    else return;
    e.preventDefault();
    if (e.shiftKey && at >= 0 && !fixed) other = to; else { at = to; other = -1; }
    show();
  });
  box.addEventListener('focusout', e => { if (!box.contains(e.relatedTarget)) clear(); });

  // dress makes charts reachable for the keyboard: each is a slider over time.
  function dress() {
    for (const fig of figures()) {
      const d = data(fig), plot = fig.querySelector('.plot');
      if (!d.count) continue;
      for (const [name, value] of Object.entries({ tabindex: 0, role: 'slider', 'aria-valuemin': 0, 'aria-valuemax': d.count - 1, 'aria-valuenow': d.count - 1, 'aria-valuetext': d.svg.getAttribute('aria-label') })) plot.setAttribute(name, value);
      plot.setAttribute('aria-label', fig.querySelector('figcaption b').textContent + ': arrow keys move through time' + (fixed ? '' : ', with shift they choose, Enter zooms in'));
      d.svg.setAttribute('aria-hidden', 'true');
    }
  }
  async function newer() {
    const charts = box.querySelector('.pasts');
    if (!charts || charts.dataset.still !== undefined || document.hidden || box.matches(':hover, :focus-within')) return;
    try {
      const r = await fetch(location.href, { headers: { Accept: 'text/html' } });
      if (!r.ok || box.matches(':hover, :focus-within')) return;
      const fresh = new DOMParser().parseFromString(await r.text(), 'text/html').getElementById('past');
      const open = box.querySelector('details[open]') !== null;
      if (!fresh) return;
      box.replaceChildren(...Array.from(fresh.childNodes, n => document.importNode(n, true)));
      if (open && box.querySelector('details')) box.querySelector('details').open = true;
      dress();
      document.documentElement.dataset.pasts = String(Number(document.documentElement.dataset.pasts || 0) + 1); // for tests
    } catch (err) { /* the page says when the node does not answer */ }
  }
  dress();
  const charts = box.querySelector('.pasts');
  if (charts) setInterval(newer, 1000 * Math.max(10, Number(charts.dataset.every) || 10));
})();
