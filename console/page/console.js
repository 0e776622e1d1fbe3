// The page is written by the node. This puts each new writing in place without moving what the reader looks at,
// draws the small curves, and asks before something is changed. Without it the page is still whole, only still.
'use strict';
(() => {
  const keep = 120; // points of the large curve: two minutes, one a second
  const little = 60; // points of the small ones
  const lost = 5000; // ms without a sign of life
  const live = document.getElementById('live');
  const say = document.getElementById('say');
  const ask = document.getElementById('ask');
  const curves = new Map();
  let source = null, heard = 0, count = 0;

  // morph makes have look like want: same elements stay, with focus, selection and hover.
  function morph(have, want) {
    if (have.nodeType !== Node.ELEMENT_NODE) {
      if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
      return;
    }
    const still = have.hasAttribute('data-keep');
    for (const a of Array.from(have.attributes)) {
      if (!want.hasAttribute(a.name) && !(still && a.name === 'class')) have.removeAttribute(a.name);
    }
    for (const a of Array.from(want.attributes)) {
      if (have.getAttribute(a.name) !== a.value && !(still && a.name === 'class')) have.setAttribute(a.name, a.value);
    }
    if (!still) children(have, want);
  }
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || '') === (b.id || '');
  function children(have, want) {
    let at = have.firstChild;
    const known = new Map();
    for (const el of have.children) if (el.id) known.set(el.id, el);
    for (const w of Array.from(want.childNodes)) {
      let h = null;
      if (w.id) h = known.get(w.id) || null;
      else if (at && same(at, w)) h = at;
      if (h && same(h, w)) {
        if (h === at) at = at.nextSibling; else have.insertBefore(h, at);
        morph(h, w);
      } else {
        have.insertBefore(document.importNode(w, true), at);
      }
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  }

  // draw adds the newest value to each curve and draws it, the newest at the right.
  function draw(add) {
    const seen = new Set();
    for (const svg of live.querySelectorAll('svg.spark')) {
      const key = svg.dataset.key, value = Number(svg.dataset.value) || 0;
      seen.add(key);
      let list = curves.get(key);
      if (!list) {
        list = (svg.dataset.history || '').split(' ').filter(Boolean).map(Number);
        curves.set(key, list);
      }
      if (add) list.push(value);
      const width = svg.classList.contains('tall') ? keep : little;
      while (list.length > width) list.shift();
      curve(svg, list, width);
    }
    for (const key of curves.keys()) if (!seen.has(key)) curves.delete(key);
  }
  function curve(svg, list, width) {
    if (list.length < 4) return; // fewer is a blot, not a curve
    const w = 120, h = 32, top = Math.max(...list, 1) * 1.12, from = width - list.length;
    const points = list.map((v, i) => `${((from + i) * w / (width - 1)).toFixed(2)} ${(h - 1 - (h - 2) * v / top).toFixed(2)}`);
    if (!svg.firstChild) {
      for (const name of ['area', 'line']) {
        const p = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        p.setAttribute('class', name);
        svg.append(p);
      }
    }
    const line = 'M' + points.join('L');
    svg.firstChild.setAttribute('d', `${line}V${h}H${(from * w / (width - 1)).toFixed(2)}Z`);
    svg.lastChild.setAttribute('d', line);
  }

  const states = () => new Map(Array.from(live.querySelectorAll('[data-say]'), el => [el.id, [el.dataset.state, el.dataset.say]]));

  // put shows a new writing and says aloud what changed its state, at most three things at once.
  function put(html) {
    const before = states();
    const doc = new DOMParser().parseFromString('<div>' + html + '</div>', 'text/html');
    children(live, doc.body.firstChild);
    draw(true);
    const news = [];
    for (const [id, [state, text]] of states()) {
      const old = before.get(id);
      if (old && old[0] !== state) news.push(text);
    }
    if (news.length) say.textContent = news.slice(0, 3).join('. ') + (news.length > 3 ? `, and ${news.length - 3} more changes` : '');
    document.documentElement.dataset.views = String(++count); // for tests
  }

  function link(text, tone) {
    const el = document.getElementById('link');
    if (el.textContent !== text) { el.textContent = text; el.className = 'pill ' + tone; }
  }
  function open() {
    if (source || document.hidden || !live.dataset.live) return;
    source = new EventSource(live.dataset.live);
    heard = Date.now();
    source.addEventListener('page', e => {
      heard = Date.now();
      put(JSON.parse(e.data));
      link('◉ live', 'good');
    });
    source.addEventListener('error', () => {
      if (source && source.readyState === EventSource.CLOSED) { source = null; link('▲ the node refuses, reload the page', 'bad'); }
    });
  }
  function close() { if (source) { source.close(); source = null; } }

  // A page nobody looks at holds no place among the watchers.
  document.addEventListener('visibilitychange', () => { if (document.hidden) close(); else open(); });
  window.addEventListener('pagehide', close);
  window.addEventListener('pageshow', open);
  setInterval(() => { if (source && Date.now() - heard > lost) link('▲ no word from the node for ' + Math.round((Date.now() - heard) / 1000) + ' s', 'bad'); }, 1000);

  // The answer is taken from submit and cancel: close comes later, when the next question may already be open.
  let settle = null;
  const settled = yes => { if (settle) settle(yes); settle = null; };
  ask.addEventListener('submit', e => settled(e.submitter.value === 'yes'));
  ask.addEventListener('cancel', () => settled(false));
  function question(button) {
    document.getElementById('ask-title').textContent = button.dataset.ask;
    document.getElementById('ask-text').textContent = button.dataset.text;
    document.getElementById('ask-yes').textContent = button.dataset.yes;
    settled(false);
    return new Promise(done => { settle = done; ask.showModal(); });
  }
  live.addEventListener('submit', async e => {
    const button = e.submitter, form = e.target;
    if (!button || !button.dataset.ask) return;
    e.preventDefault();
    const url = form.action, what = button.dataset.ask.replace(/\?$/, ''); // the form may change while the question is open
    if (!await question(button)) return;
    try {
      const r = await fetch(url, { method: 'POST', headers: { Accept: 'application/json' } });
      const body = await r.json();
      say.className = r.ok ? 'unseen' : 'toast bad';
      say.textContent = r.ok ? what + ': done' : '▲ ' + what + ': ' + (body.detail || body.title);
    } catch (err) {
      say.className = 'toast bad';
      say.textContent = '▲ ' + what + ': the node did not answer';
    }
    setTimeout(() => { say.className = 'unseen'; }, 12000);
  });

  const here = document.querySelector('.rail [aria-current]');
  if (here) here.closest('.rail').scrollLeft = here.offsetLeft - 60; // on a phone the navigation is a strip

  draw(true);
  open();
})();
