package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/browser"
)

func TestPageInBrowser(t *testing.T) {
	rig := newRig()
	s := serveReal(t, New(rig.deps))
	b := browser.Open(t) // after the server: it leaves first, and so ends its streams
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/pools/shop"})
	b.Until(`document.readyState === 'complete' && document.documentElement.dataset.views === '1'`)
	first := b.Eval(`document.querySelector('.pace b').textContent`)

	// Focus on a button must outlive new views; the figures must move under it.
	row := `document.getElementById('ep-shop-10.0.1.2:8000')`
	b.Eval(row + `.querySelector('button').focus()`)
	b.Until(`Number(document.documentElement.dataset.views) >= 3`)
	if second := b.Eval(`document.querySelector('.pace b').textContent`); second == first {
		t.Errorf("the rate stands still at %s", first)
	}
	if got := b.Eval(row + `.contains(document.activeElement)`); got != "true" {
		t.Error("a new view took the focus away")
	}
	if got := b.Eval(`document.getElementById('link').textContent`); got != "◉ live" {
		t.Errorf("the link says %q", got)
	}

	// A change is asked about first; no leaves all as it is, yes does it, shows it and says it.
	b.Eval(row + `.querySelector('button').click()`)
	b.Until(`document.getElementById('ask').open`)
	b.Eval(`document.querySelector('#ask button[value=no]').click()`)
	b.Until(`!document.getElementById('ask').open`)
	b.Eval(row + `.querySelector('button').click()`)
	b.Until(`document.getElementById('ask').open && document.getElementById('ask-title').textContent === 'Drain 10.0.1.2:8000?'`)
	rig.node.mu.Lock()
	early := len(rig.node.admin)
	rig.node.mu.Unlock()
	if early != 0 {
		t.Error("the node was told before the answer was yes")
	}
	b.Eval(`document.getElementById('ask-yes').click()`)
	b.Until(row + `.dataset.state === 'draining'`)
	b.Until(`document.getElementById('say').textContent.length > 0`)

	// At the width of a phone nothing sticks out.
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": true})
	if got := b.Eval(`document.documentElement.scrollWidth <= 360`); got != "true" {
		t.Errorf("on a phone the page is %s px wide", b.Eval(`document.documentElement.scrollWidth`))
	}
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}

func TestOverloadInBrowser(t *testing.T) {
	rig := newRig()
	rig.node.now = func() time.Time { return time.Unix(600*2_000_000+44+int64(rig.node.ticks()), 0) } // at the height of the wave
	rig.deps.Now = rig.node.now
	s := serveReal(t, New(rig.deps))
	b := browser.Open(t)
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/"})
	b.Until(`document.documentElement.dataset.views === '1'`)
	b.Eval(`document.querySelector('#alarm a').click()`) // the node's own page leads there
	b.Until(`location.pathname === '/overload' && document.documentElement.dataset.views >= '2'`)
	if got := b.Eval(`document.getElementById('load-state').textContent`); got != "▲ overloaded" {
		t.Errorf("the page says %q", got)
	}
	if got := b.Eval(`document.querySelectorAll('.chart').length`); got != "4" {
		t.Errorf("%s charts", got)
	}
	// Charts move, and the page does not: what stands below stays where it is.
	path := b.Eval(`document.querySelector('#chart-node .c-standard[d]').getAttribute('d')`)
	top := b.Eval(`document.getElementById('h-refused').getBoundingClientRect().top`)
	seen := b.Eval(`document.documentElement.dataset.views`)
	b.Until(`Number(document.documentElement.dataset.views) >= ` + seen + ` + 2`)
	if b.Eval(`document.querySelector('#chart-node .c-standard[d]').getAttribute('d')`) == path {
		t.Error("the chart stands still")
	}
	if now := b.Eval(`document.getElementById('h-refused').getBoundingClientRect().top`); now != top {
		t.Errorf("what stands below moved from %s to %s", top, now)
	}

	// Refusing by hand is asked about, and shown with the way back.
	b.Eval(`document.querySelector('#load-shop .acts button').click()`)
	b.Until(`document.getElementById('ask').open && document.getElementById('ask-title').textContent === 'Refuse low requests of pool shop for ten minutes?'`)
	b.Eval(`document.getElementById('ask-yes').click()`)
	b.Until(`document.querySelector('#load-shop .acts button').textContent === 'Let low in again'`)
	if got := b.Eval(`document.querySelector('#load-shop .note').textContent`); !strings.Contains(got, "Refused by hand: low for") {
		t.Errorf("the note says %q", got)
	}
	for _, width := range []int{360, 800} {
		b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
		if got := b.Eval(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, width)); got != "true" {
			t.Errorf("at %d the page is %s px wide", width, b.Eval(`document.documentElement.scrollWidth`))
		}
	}
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}

func TestLoginInBrowser(t *testing.T) {
	rig := newRig()
	rig.deps.Token = secret
	s := serveReal(t, New(rig.deps))
	b := browser.Open(t)
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/"})
	b.Until(`document.readyState === 'complete' && document.getElementById('token')`)
	b.Eval(`document.getElementById('token').value = 'wrong'; document.querySelector('button').click()`)
	b.Until(`document.readyState === 'complete' && document.getElementById('wrong')`)
	b.Talk = nil // browsers note the 401
	b.Eval(`document.getElementById('token').value = '` + secret + `'; document.querySelector('button').click()`)
	b.Until(`document.documentElement.dataset.views === '1'`)
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
	if got := b.Eval(`fetch('/api/v1/reload', {method: 'POST'}).then(r => r.status)`); got != fmt.Sprint(http.StatusOK) {
		t.Errorf("a change with the session: status %s", got)
	}
}
