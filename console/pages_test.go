package console

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/browser"
)

// tableOf are the pages of a console.
func tableOf(d Deps) []page { return (&console{deps: d}).pageTable() }

// everything is a console that has all there is to show.
func everything() Deps {
	rig := newRig()
	return rig.node.all(rig.deps)
}

// Every page is in the navigation, says which it is, has a stream and a twin that is JSON.
func TestEveryPage(t *testing.T) {
	d := everything()
	h := New(d)
	nav := ask(h, "GET", "/").Body.String()
	for _, p := range tableOf(d) {
		path := strings.ReplaceAll(p.path, "{pool}", "shop")
		w := ask(h, "GET", path)
		body := w.Body.String()
		if w.Code != 200 {
			t.Fatalf("%s: status %d", path, w.Code)
		}
		marked := p.path
		if p.under != "" {
			marked = p.under
		} else if !strings.Contains(nav, `<a href="`+p.path+`"`) {
			t.Errorf("%s is not in the navigation", p.path)
		}
		if strings.Count(body, `aria-current="page"`) != 1 || !strings.Contains(body, `<a href="`+marked+`" aria-current="page">`) {
			t.Errorf("%s: the navigation does not say where we are", path)
		}
		if strings.Count(body, "<h1>") != 1 || !strings.Contains(body, `id="`+p.skip+`" tabindex="-1"`) {
			t.Errorf("%s: not one heading, or nothing at %q to skip to", path, p.skip)
		}
		twin := p.twin
		if twin == "" {
			twin = "/api/v1" + path
		}
		if !strings.Contains(body, `<a href="`+twin+`">this page as JSON</a>`) {
			t.Errorf("%s: no way to %s", path, twin)
		}
		if ask(h, "GET", twin).Code != 200 {
			t.Errorf("%s: its twin answers %d", path, ask(h, "GET", twin).Code)
		}
	}
}

// Pages of parts that a site does not use are absent.
func TestAbsentPages(t *testing.T) {
	h := New(Deps{Listen: "127.0.0.1:7600"})
	body := ask(h, "GET", "/").Body.String()
	for _, path := range []string{"/pools", "/dependencies", "/limits", "/cache", "/checks", "/zones", "/graph", "/config", "/alerts"} {
		if strings.Contains(body, `href="`+path+`"`) || ask(h, "GET", path).Code != 404 {
			t.Errorf("%s is there although nothing is there to show", path)
		}
	}
	if strings.Contains(body, `id="past"`) {
		t.Error("a node without history shows a past")
	}
}

func TestPeriods(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 7, 0, time.UTC)
	for query, want := range map[string]string{
		"":                                "1h 11:00:00 12:00:00 30s 60s",
		"range=15m":                       "15m 11:45:00 12:00:00 10s 60s",
		"range=7d":                        "7d 12:00:00 12:00:00 1h24m0s 5040s",
		"range=2y":                        "1h 11:00:00 12:00:00 30s 60s",
		"from=1772362800&to=1772366400":   " 11:00:00 12:00:00 30s 60s",
		"from=1772362800&to=1772362801":   "1h 11:00:00 12:00:00 30s 60s",
		"from=1772366400&to=1772362800":   "1h 11:00:00 12:00:00 30s 60s",
		"from=1772362800&to=17723664000":  "1h 11:00:00 12:00:00 30s 60s",
		"from=-1&to=1772366400":           "1h 11:00:00 12:00:00 30s 60s",
		"from=1772366280&to=1772366400":   " 11:58:00 12:00:00 10s 60s",
		"from=1672366280&to=1772366400":   "1h 11:00:00 12:00:00 30s 60s",
		"from=x&to=1772366400&range=6h":   "6h 06:00:00 12:00:00 3m0s 180s",
		"from=1772280000&to=1772366400&x": " 12:00:00 12:00:00 12m0s 720s",
	} {
		r := httptest.NewRequest("GET", "/?"+query, nil)
		p := periodOf(r.URL.Query(), now, now.Add(-time.Hour))
		got := fmt.Sprintf("%s %s %s %s %s", p.Word, p.From.UTC().Format("15:04:05"), p.To.UTC().Format("15:04:05"), p.Step, p.window())
		if got != want {
			t.Errorf("%q is %s, want %s", query, got, want)
		}
	}
}

// The history is asked once for all who look at the same, and not by streams.
func TestHistoryIsAskedOnce(t *testing.T) {
	d, asked := everything(), 0
	ask1 := d.Ask
	d.Ask = func(ctx context.Context, q Asked) (Answered, error) { asked++; return ask1(ctx, q) }
	at := time.Unix(1.7e9, 0)
	d.Now = func() time.Time { return at }
	h := New(d)
	first := ask(h, "GET", "/pools/shop").Body.String()
	n := asked
	if n == 0 || !strings.Contains(first, `data-values="[[`) {
		t.Fatalf("%d questions, and no values in the page", n)
	}
	for range 3 {
		ask(h, "GET", "/pools/shop")
	}
	if asked != n {
		t.Errorf("%d questions, want the %d of the first who looked", asked, n)
	}
	s := serveReal(t, h)
	_, lines := stream(t.Context(), t, s.URL+"/live/pools/shop")
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, "data: ") {
			if strings.Contains(line, "figure") || !strings.Contains(line, `id=\"past\"`) {
				t.Error("the stream carries charts of the past, or no place for them")
			}
			break
		}
	}
	if asked != n {
		t.Error("a stream asks the history")
	}
}

func TestChartOfThePast(t *testing.T) {
	c := &console{answers: new(answers), deps: Deps{Now: func() time.Time { return time.Unix(1200, 0) }}}
	p := period{From: time.Unix(600, 0), To: time.Unix(1200, 0), Step: 60 * time.Second}
	c.deps.Ask = func(_ context.Context, q Asked) (got Answered, err error) {
		if q.Expr != "x[60s]" {
			return got, fmt.Errorf("asked %s", q.Expr)
		}
		for i := range 10 {
			s := AnsweredSeries{Labels: map[string]string{"pool": fmt.Sprint("p", i)}}
			for at := 600 + 60*i; at <= 1200; at += 60 {
				s.Points = append(s.Points, AnsweredPoint{At: time.Unix(int64(at), 0), Value: float64(i)})
			}
			got.Series = append(got.Series, s)
		}
		return got, nil
	}
	got := c.draw(t.Context(), drawing{id: "x", name: "X", asks: []asks{{expr: "x[$w]", by: "pool"}}}, p, []Mark{{time.Unix(660, 0), "deploy", "v1"}, {time.Unix(30, 0), "deploy", "v0"}})
	if got.Wide != 100 || len(got.Lines) != pastLines || got.More != 2 || got.Lines[0].Name != "p9" || got.Lines[0].Now != "9" {
		t.Errorf("%+v", got)
	}
	if len(got.Marks) != 1 || got.Marks[0].X != 10 {
		t.Errorf("marks %+v", got.Marks)
	}
	if want := "[null,null,null,null,null,null,null,null,null,9,9]"; !strings.HasPrefix(got.Values, "["+want) || !strings.HasPrefix(got.Graph, "/graph?expr=x%5B60s%5D&from=600&to=1200") {
		t.Errorf("values %s, graph %s", got.Values, got.Graph)
	}
	if got := c.draw(t.Context(), drawing{asks: []asks{{expr: "nonsense"}}}, p, nil); got.Empty != "asked nonsense" {
		t.Errorf("a question that failed: %+v", got)
	}
	c.deps.Ask = func(context.Context, Asked) (Answered, error) { return Answered{}, nil }
	if got := c.draw(t.Context(), drawing{asks: []asks{{expr: "nothing"}}}, p, nil); got.Empty == "" || got.Values != "[]" {
		t.Errorf("nothing kept: %+v", got)
	}
}

func TestHealthRuns(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	list := runsOf(Pool{Endpoints: []Endpoint{
		{Address: "a", History: []Verdict{{At: at(1), Healthy: true}, {At: at(2), Reason: "503"}, {At: at(3), Reason: "503"}, {At: at(4), Reason: "timeout"}}},
		{Address: "b", History: []Verdict{{At: at(5), Healthy: true}, {At: at(6), Healthy: true}}},
	}})
	got := ""
	for _, r := range list {
		got += fmt.Sprintf("%s %v %s×%d %v; ", r.Endpoint, r.Healthy, r.Reason, r.Count, r.On)
	}
	if want := "a false timeout×1 true; a false 503×2 false; a true ×1 false; "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, want := range map[string]bool{"a in pool shop is sick": true, "pool shop": true, "pool shop-2 lost one": false, "pool shop: 1 came": true, "pools": false} {
		if (Event{Text: text}).about("shop") != want {
			t.Errorf("%q is about shop: %v", text, !want)
		}
	}
}

func TestZonesAndDependencies(t *testing.T) {
	v := View{Node: Node{Zone: "a"}, Routes: []Route{{Name: "r", Pool: "p", Fallback: "spare"}, {Name: "x", Pool: "redirect"}},
		Overload: Overload{Pools: []PoolLoad{{Pool: "p", Limit: 40, InFlight: 10, P99MS: 7}}},
		Pools: []Pool{{Name: "p", RPS: 40, FailedRPS: 10, Endpoints: []Endpoint{
			{Address: "1", Zone: "a", Weight: 3, EffectiveWeight: 3, State: StateUp, RPS: 30, InFlight: 2}, {Address: "2", Zone: "b", Weight: 1, State: StateSick, RPS: 10},
			{Address: "3", Zone: "b", Weight: 1, EffectiveWeight: 1, State: StateUp}}}, {Name: "spare"}}}
	list := v.zones()
	if len(list) != 2 || !list[0].Here || list[0].Share != .75 || list[0].Capacity != 1 || list[1].Up != 1 || list[1].Capacity != .5 || list[1].Pools[0].Due != .25 {
		t.Errorf("zones %+v", list)
	}
	d := v.dependencies()
	if len(d) != 2 || fmt.Sprint(d[0].Routes, d[0].StandsIn, d[1].Routes, d[1].StandsIn) != "[r] [] [] [r]" || d[0].ErrorShare != .25 || d[0].Saturation != .25 || d[0].P99MS != 7 || d[0].InFlight != 2 || d[0].Up != 2 {
		t.Errorf("dependencies %+v", d)
	}
	if m := sketchOf(v); len(m.Nodes) != 6 || len(m.Edges) != 5 || m.Left != 0 {
		t.Errorf("the map has %d boxes and %d lines", len(m.Nodes), len(m.Edges))
	}
	for i := range 300 {
		v.Pools = append(v.Pools, Pool{Name: fmt.Sprint("p", i), Endpoints: make([]Endpoint, 3)})
		v.Routes = append(v.Routes, Route{Name: fmt.Sprint("r", i), Pool: fmt.Sprint("p", i)})
	}
	if m := sketchOf(v); len(m.Nodes) > 3*sketchRows || m.Left == 0 {
		t.Errorf("the map of a large site has %d boxes, %d are left out", len(m.Nodes), m.Left)
	}
}

func TestFormsGoBackToWhereTheyStand(t *testing.T) {
	h := New(newRig().deps)
	for referer, want := range map[string]string{"": "/", "http://127.0.0.1:7600/pools/shop?range=6h": "/pools/shop?range=6h", "http://evil.example/x": "/", "http://127.0.0.1:7600//evil.example": "/", "::": "/"} {
		w := ask(h, "POST", "/api/v1/reload", "Accept", "text/html", "Referer", referer)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want {
			t.Errorf("from %q: %d to %q, want %q", referer, w.Code, w.Header().Get("Location"), want)
		}
	}
}

// looks are the ways in which pages are looked at.
var looks = []struct {
	scheme string
	width  int
}{{"light", 1280}, {"light", 900}, {"dark", 360}}

// Every page loads under its content security policy without a word on the browser's console, moves, sticks out at no width, and holds nothing
// that keeps people out who see, hear or move otherwise.
func TestPagesInBrowser(t *testing.T) {
	d := everything()
	s := serveReal(t, New(d))
	b := browser.Open(t)
	for _, p := range tableOf(d) {
		path := strings.ReplaceAll(p.path, "{pool}", "shop")
		b.Look("light", 1280)
		b.Go(s.URL + path)
		if !p.still {
			b.Until(`Number(document.documentElement.dataset.views) >= 1`)
		}
		clock := `document.querySelector('footer time').textContent`
		was := b.Eval(clock)
		lookAt(t, b, path)
		if !p.still {
			b.Until(clock + ` !== '` + was + `'`)
		}
		silent(t, b, path)
	}
	for _, path := range []string{"/graph?expr=up&range=6h", "/pools?from=1700000000&to=1700003600", "/events?kind=mark&text=v42", "/events?text=none",
		"/query?q=AppEvents", "/query?q=bars", "/query?q=none"} {
		b.Go(s.URL + path)
		lookAt(t, b, path)
		silent(t, b, path)
	}
	for _, path := range []string{"/events?since=yesterday", "/query?q=wrong"} {
		b.Go(s.URL + path)
		lookAt(t, b, path)
		b.Talk = nil // browsers note the 400
	}
}

// lookAt looks at the page in light and dark, wide and as a phone: nothing sticks out, and nothing keeps people out.
func lookAt(t *testing.T, b *browser.Browser, path string) {
	t.Helper()
	for _, look := range looks {
		b.Look(look.scheme, look.width)
		if got := b.Eval(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, look.width)); got != "true" {
			t.Errorf("%s: at %d the page is %s px wide", path, look.width, b.Eval(`document.documentElement.scrollWidth`))
		}
		if look.width == 900 {
			continue
		}
		if faults := b.Judge(); faults != "" {
			t.Errorf("%s in %s at %d: %s", path, look.scheme, look.width, faults)
		}
	}
}

// silent says whether the page's console said something.
func silent(t *testing.T, b *browser.Browser, path string) {
	t.Helper()
	if len(b.Talk) > 0 {
		t.Errorf("%s: the page's console is not empty: %s", path, strings.Join(b.Talk, "\n"))
		b.Talk = nil
	}
}

// Charts show their values under the pointer and for the arrow keys, and zoom.
func TestChartsInBrowser(t *testing.T) {
	d := everything()
	waves := d.Ask
	d.Ask = func(ctx context.Context, q Asked) (Answered, error) {
		got, err := waves(ctx, q)
		for _, s := range got.Series {
			for i := range s.Points {
				s.Points[i].Value = float64(i) // waves come by each value again: at some times of day the place looked at says what the latest says
			}
		}
		return got, err
	}
	s := serveReal(t, New(d))
	b := browser.Open(t)
	b.Look("light", 1280)
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/dependencies"})
	b.Until(`document.readyState === 'complete' && document.documentElement.dataset.views === '1'`)
	const plot = `document.querySelector('#past-dep-rate .plot')`
	now := b.Eval(`document.querySelector('#past-dep-rate .legend i').textContent`)
	b.Eval(plot + `.scrollIntoView({block: 'center'})`)
	spot := func(share float64) (x, y any) {
		var at [2]float64
		fmt.Sscan(b.Eval(fmt.Sprintf(`(r => (r.left + r.width * %g) + ' ' + (r.top + 20))(%s.querySelector('svg').getBoundingClientRect())`, share, plot)), &at[0], &at[1])
		return at[0], at[1]
	}
	mouse := func(kind string, share float64, button string) {
		x, y := spot(share)
		b.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": button, "clickCount": 1})
	}
	mouse("mouseMoved", .3, "none")
	if got := b.Eval(`document.querySelectorAll('.cursor').length`); got != "4" {
		t.Errorf("the place is shown in %s charts, want all 4", got)
	}
	if got := b.Eval(`document.querySelector('#past-dep-rate .legend i').textContent`); got == now || got == "–" {
		t.Errorf("the value there is %s, the latest %s", got, now)
	}
	if got := b.Eval(`document.querySelector('#past-dep-rate .at').textContent`); !strings.Contains(got, ":") {
		t.Errorf("the time there is %q", got)
	}
	// New views leave the charts alone.
	b.Until(`Number(document.documentElement.dataset.views) >= 3`)
	if got := b.Eval(`document.querySelectorAll('.cursor').length`); got != "4" {
		t.Error("a new view took the cursor away")
	}
	// By the keyboard: one step to the left changes what is said.
	b.Eval(plot + `.focus()`)
	said := b.Eval(plot + `.getAttribute('aria-valuetext')`)
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "ArrowLeft"})
	if got := b.Eval(plot + `.getAttribute('aria-valuetext')`); got == said || !strings.Contains(got, "shop") {
		t.Errorf("an arrow key says %q after %q", got, said)
	}
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Escape"})
	// What is dragged over fills the page.
	mouse("mousePressed", .25, "left")
	mouse("mouseMoved", .5, "left")
	if got := b.Eval(`document.querySelectorAll('.chosen').length`); got != "4" {
		t.Errorf("what is chosen is shown in %s charts", got)
	}
	mouse("mouseReleased", .5, "left")
	b.Until(`location.search.includes('from=') && document.readyState === 'complete' && document.documentElement.dataset.views === '1'`)
	if got := b.Eval(`new URLSearchParams(location.search).get('to') - new URLSearchParams(location.search).get('from')`); got < "870" || got > "930" {
		t.Errorf("a quarter of an hour was dragged over, %s s are shown", got)
	}
	b.Eval(`document.querySelector('#past-dep-rate .promql').click()`)
	b.Until(`location.pathname === '/graph' && document.querySelectorAll('#past-free .l-s1').length > 0`)
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}

// The chart of an answer shows its values too. Its period is a part of the question, so that there is nothing to zoom into.
func TestAnswerInBrowser(t *testing.T) {
	s := serveReal(t, New(everything()))
	b := browser.Open(t)
	b.Look("light", 1280)
	b.Go(s.URL + "/query?q=AppEvents")
	now := b.Eval(`document.querySelector('#past .legend').innerText`)
	var left, top, wide float64
	fmt.Sscan(b.Eval(`(r => r.left + ' ' + r.top + ' ' + r.width)(document.querySelector('#past .plot svg').getBoundingClientRect())`), &left, &top, &wide)
	for i, kind := range []string{"mouseMoved", "mousePressed", "mouseMoved", "mouseReleased"} {
		b.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": left + wide*(.3+.05*float64(i)), "y": top + 20, "button": []string{"none", "left", "left", "left"}[i], "clickCount": 1})
	}
	if got := b.Eval(`document.querySelectorAll('#past .cursor').length`); got != "1" {
		t.Errorf("%s places are shown", got)
	}
	if got := b.Eval(`document.querySelector('#past .legend').innerText`); got == now || !strings.Contains(got, "true 40") {
		t.Errorf("the values there are %q, the latest %q", got, now)
	}
	if got := b.Eval(`location.search`); got != "?q=AppEvents" {
		t.Errorf("dragging led to %s", got)
	}
	silent(t, b, "/query")
}

// TestKeyboardInBrowser walks through pages with the tab key alone: it gets to everything that can be used, and always shows where it is.
func TestKeyboardInBrowser(t *testing.T) {
	s := serveReal(t, New(everything()))
	b := browser.Open(t)
	b.Look("light", 1280)
	for _, path := range []string{"/", "/pools/shop", "/alerts", "/query?q=AppEvents", "/graph", "/events"} {
		b.Go(s.URL + path)
		b.Press("Tab")
		if got := b.Eval(`document.activeElement.className + ' ' + (document.activeElement.getBoundingClientRect().top >= 0)`); got != "skip true" {
			t.Errorf("%s: first comes %q, want the link that skips the navigation, seen", path, got)
		}
		b.Press("Enter")
		if got := b.Eval(`'#' + document.activeElement.id === location.hash`); got != "true" {
			t.Errorf("%s: the first link does not lead to %s", path, b.Eval(`location.hash`))
		}
		b.Eval(`document.activeElement.blur(); window.scrollTo(0, 0); 0`)
		b.Go(s.URL + path)
		const usable = `[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(e => e.checkVisibility() && e.type !== 'hidden' && !e.closest('dialog'))`
		b.Eval(`window.seen = new Set(); 0`)
		for range 250 {
			b.Press("Tab")
			where := b.Eval(`(e => { if (e === document.body || window.seen.has(e) && e !== window.last) return 'round'; window.seen.add(window.last = e); const c = getComputedStyle(e), r = e.getBoundingClientRect();
				return (c.outlineStyle === 'none' && c.boxShadow === 'none' ? 'unmarked ' : r.bottom < 0 || r.top > innerHeight ? 'out of sight ' : '') + e.outerHTML.slice(0, 80); })(document.activeElement)`)
			if where == "round" {
				break
			}
			if strings.HasPrefix(where, "unmarked") || strings.HasPrefix(where, "out of sight") {
				t.Errorf("%s: %s", path, where)
			}
		}
		if got := b.Eval(usable + `.filter(e => document.contains(e) && !window.seen.has(e)).map(e => e.outerHTML.slice(0, 120)).join('\n')`); got != "" {
			t.Errorf("%s: the tab key never comes to %s", path, got)
		}
	}
	silent(t, b, "the keyboard")
}

// TestWithoutScripts reads every page in a browser that runs none, and drains an endpoint.
func TestWithoutScripts(t *testing.T) {
	rig := newRig()
	d := rig.node.all(rig.deps)
	s := serveReal(t, New(d))
	b := browser.Open(t)
	b.Call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	for _, p := range tableOf(d) {
		path := strings.ReplaceAll(p.path, "{pool}", "shop")
		b.Look("light", 1280)
		b.Go(s.URL + path)
		if got := b.Eval(`document.querySelector('main').innerText.length > 60 && document.querySelectorAll('nav.rail a').length > 10 && !document.documentElement.dataset.views`); got != "true" {
			t.Errorf("%s says nothing without scripts: %s", path, b.Eval(`document.body.innerText`))
		}
		if got := b.Eval(`[...document.querySelectorAll('figure .plot')].every(f => f.querySelector('[d]') || f.querySelector('.nothing'))`); got != "true" {
			t.Errorf("%s has empty charts without scripts", path)
		}
		b.Look("dark", 360)
		if got := b.Eval(`document.documentElement.scrollWidth <= 360`); got != "true" {
			t.Errorf("%s: without scripts a phone's page is %s px wide", path, b.Eval(`document.documentElement.scrollWidth`))
		}
	}
	b.Look("light", 1280)
	b.Go(s.URL + "/pools/shop")
	b.Eval(`window.left = true; 0`)
	b.Click(`[id="ep-shop-10.0.1.2:8000"] form[action$="/drain"] button`)
	b.Until(`window.left === undefined && document.readyState === 'complete'`)
	if got := b.Eval(`location.pathname + ' ' + document.getElementById('ep-shop-10.0.1.2:8000').dataset.state`); got != "/pools/shop draining" {
		t.Errorf("draining without scripts leads to %s", got)
	}
	silent(t, b, "without scripts")
}
