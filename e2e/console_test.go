package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/browser"
)

const eye, hand = "sees-all-day-long", "steers-all-night-long"

// watched is the site of a node that people watch and steer: a reader called eye and an operator called hand. Nothing of it waits long.
const watched = `
name: shop
state_dir: DIR/state
guard: {mode: "off"} # a busy machine is not what is tested
admin:
  tokens: [{name: eye, token: "EYE", role: read}, {name: hand, token: "HAND", role: operate}]
listeners: {web: {listen: "127.0.0.1:0"}}
pools:
  shop: {endpoints: ["ONE", "TWO"], method: round_robin, probe: {http: {path: /healthz}, every: 200ms}}
  moody: {endpoints: ["MOODY"], probe: {http: {path: /healthz}, every: 100ms, rise: 1, fall: 1}}
routes:
  - {name: moody, paths: [/moody], pool: moody}
  - {name: rest, pool: shop}
limits: [{name: all, by: global, rate: 5000/s}]
objectives: [{name: shop-available, route: rest, target: 99%, window: 1d}]
monitor: {scrape_every: 1s}
alerts:
  every: 100ms
  group_wait: 100ms
  group_interval: 1s
  rules: {pool-capacity: {for: 1ms}}
  receivers: [{name: hook, webhook: {url: "http://HOOK/"}}]
`

// shopfront is a running node with its endpoints, traffic, and who is told of alerts.
type shopfront struct {
	*gateway
	one, two string
	asked    [2]atomic.Int64 // requests at each endpoint, without probes
	sick     atomic.Bool     // pool moody is
	told     strings.Builder // what the hook was sent
	mu       sync.Mutex      // guards told
}

// newShopfront starts all that, with a hundred requests a second or so until the test ends.
func newShopfront(t *testing.T) *shopfront {
	s := new(shopfront)
	endpoint := func(asked *atomic.Int64) string {
		return service(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/healthz" {
				asked.Add(1)
			}
			io.WriteString(w, "hello")
		})
	}
	s.one, s.two = endpoint(&s.asked[0]), endpoint(&s.asked[1])
	moody := service(t, func(w http.ResponseWriter, r *http.Request) {
		if s.sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	hook := service(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told.Write(b)
	})
	s.gateway = runSite(t, strings.NewReplacer("DIR", t.TempDir(), "EYE", eye, "HAND", hand, "ONE", s.one, "TWO", s.two, "MOODY", moody, "HOOK", hook).Replace(watched))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if resp, err := http.Get("http://" + s.at["web"]); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended; http.DefaultClient.CloseIdleConnections() })
	return s
}

func (s *shopfront) toldOf(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.told.String(), text)
}

// moved waits until the first endpoint got n more requests.
func (s *shopfront) moved(n int64) {
	s.t.Helper()
	from := s.asked[0].Load()
	until(s.t, "traffic flows", func() bool { return s.asked[0].Load() >= from+n })
}

// controls counts what changes something on a page.
const controls = `[...document.querySelectorAll('form[method=post]')].filter(f => !f.action.endsWith('/logout')).length`

// signIn opens the console, which asks who it is, and shows a token.
func (s *shopfront) signIn(b *browser.Browser, token string) {
	s.t.Helper()
	b.Go("http://" + s.at["console"] + "/")
	b.Eval(`window.left = true; document.getElementById('token').value = '` + token + `'; 0`)
	b.Click("form button")
	b.Until(`window.left === undefined && location.pathname === '/' && Number(document.documentElement.dataset.views) >= 1`)
}

// pages are those that the navigation leads to, and one pool's.
func pagesOf(t *testing.T, b *browser.Browser) []string {
	t.Helper()
	list := append(strings.Fields(b.Eval(`[...document.querySelectorAll('nav.rail a')].map(a => a.getAttribute('href')).join(' ')`)), "/pools/shop")
	if len(list) < 14 {
		t.Fatalf("the navigation leads to %q", list)
	}
	return list
}

// TestConsoleInBrowser works the console of a real node with a browser, as an operator does: figures move, every page loads without a word on the
// browser's console, draining drains, silencing silences.
func TestConsoleInBrowser(t *testing.T) {
	s := newShopfront(t)
	b := browser.Open(t)
	s.signIn(b, hand)
	const rate, chart = `document.querySelector('.trio dd').textContent`, `document.querySelector('#chart-node .c-standard[d]').getAttribute('d')`
	b.Until(`parseFloat(` + rate + `) > 10`)
	path := b.Eval(chart)
	b.Until(chart + ` !== '` + path + `'`)

	base := "http://" + s.at["console"]
	for _, page := range pagesOf(t, b) {
		b.Go(base + page)
		b.Until(`!document.getElementById('live').dataset.live || Number(document.documentElement.dataset.views) >= 1`)
		for _, look := range []struct {
			scheme string
			width  int
		}{{"light", 1280}, {"dark", 360}} {
			b.Look(look.scheme, look.width)
			if got := b.Eval(`document.documentElement.scrollWidth`); got > fmt.Sprint(look.width) && len(got) >= len(fmt.Sprint(look.width)) {
				t.Errorf("%s: at %d the page is %s px wide", page, look.width, got)
			}
			if faults := b.Judge(); faults != "" {
				t.Errorf("%s in %s at %d: %s", page, look.scheme, look.width, faults)
			}
		}
		b.Look("light", 1280)
		if len(b.Talk) > 0 {
			t.Errorf("%s: the page's console is not empty: %s", page, strings.Join(b.Talk, "\n"))
			b.Talk = nil
		}
	}
	s.drainByButton(t, b)
	s.silenceByPage(t, b)
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}

// drainByButton drains an endpoint with the mouse, and puts it back with the keyboard.
func (s *shopfront) drainByButton(t *testing.T, b *browser.Browser) {
	t.Helper()
	b.Go("http://" + s.at["console"] + "/pools/shop")
	b.Until(`Number(document.documentElement.dataset.views) >= 2`)
	row := `#ep-shop-` + strings.NewReplacer(".", `\.`, ":", `\:`).Replace(s.two)
	state := `document.getElementById('ep-shop-` + s.two + `').dataset.state`
	b.Click(row + ` form[action$="/drain"] button`)
	b.Until(`document.getElementById('ask').open && document.getElementById('ask-title').textContent === 'Drain ` + s.two + `?'`)
	before := s.asked[1].Load()
	until(t, "the endpoint is asked as long as nobody said yes", func() bool { return s.asked[1].Load() > before })
	b.Click("#ask-yes")
	b.Until(state + ` === 'draining'`)
	s.moved(5) // what was under way has ended
	before = s.asked[1].Load()
	s.moved(100)
	if n := s.asked[1].Load() - before; n != 0 {
		t.Errorf("a drained endpoint got %d of 100 requests", n)
	}
	if got := b.Eval(`document.querySelector('` + strings.ReplaceAll(row, `\`, `\\`) + ` [data-label="Req/s"]').textContent`); got != "0" {
		t.Logf("its row still says %s/s", got)
	}

	b.Eval(`document.querySelector('` + strings.ReplaceAll(row, `\`, `\\`) + ` form[action$="/up"] button').focus()`)
	b.Press("Enter")
	b.Until(`document.getElementById('ask').open`)
	b.Press("Escape")
	b.Until(`!document.getElementById('ask').open && ` + state + ` === 'draining'`)
	b.Press("Enter")
	b.Until(`document.getElementById('ask').open`)
	b.Press("Tab")
	b.Press("Enter")
	b.Until(state + ` !== 'draining'`)
	until(t, "it is asked again", func() bool { return s.asked[1].Load() > before })
}

// silenceByPage silences an alert before it has a cause: nobody is told, until the silence is ended by its button.
func (s *shopfront) silenceByPage(t *testing.T, b *browser.Browser) {
	t.Helper()
	b.Go("http://" + s.at["console"] + "/alerts")
	b.Until(`Number(document.documentElement.dataset.views) >= 2`)
	b.Eval(`window.left = true; document.getElementById('match').value = 'alert=pool-capacity pool=moody'; document.getElementById('comment').value = 'drill'; 0`)
	b.Click("#silence-form button")
	b.Until(`window.left === undefined && document.querySelector('#silences tbody tr')`)
	s.sick.Store(true)
	b.Until(`[...document.querySelectorAll('#alerts tr')].some(r => r.innerText.includes('pool-capacity') && r.innerText.includes('firing') && r.innerText.includes('silenced'))`)
	views := b.Eval(`document.documentElement.dataset.views`)
	b.Until(`Number(document.documentElement.dataset.views) >= ` + views + ` + 3`) // longer than the hook would wait for
	if s.toldOf("pool-capacity") {
		t.Error("somebody was told of a silenced alert")
	}
	b.Click(`#silences form button`)
	b.Until(`document.getElementById('ask').open`)
	b.Click("#ask-yes")
	b.Until(`!document.querySelector('#silences tbody tr')`)
	until(t, "the hook is told once the silence is over", func() bool { return s.toldOf("pool-capacity") })

	// The button in its row does the same for two hours.
	b.Click(`#alerts tbody form button`)
	b.Until(`document.getElementById('ask').open`)
	b.Click("#ask-yes")
	b.Until(`[...document.querySelectorAll('#alerts tr')].some(r => r.innerText.includes('pool-capacity') && r.innerText.includes('silenced'))`)
}

// TestReaderInBrowser: who may only read sees figures move and no control on any page, and is refused when they post by hand.
func TestReaderInBrowser(t *testing.T) {
	s := newShopfront(t)
	b := browser.Open(t)
	s.signIn(b, eye)
	for _, page := range pagesOf(t, b) {
		b.Go("http://" + s.at["console"] + page)
		b.Until(`!document.getElementById('live').dataset.live || Number(document.documentElement.dataset.views) >= 1`)
		if got := b.Eval(controls); got != "0" {
			t.Errorf("%s shows a reader %s controls", page, got)
		}
		if !strings.Contains(b.Eval(`document.body.innerText`), "read only") {
			t.Errorf("%s does not say that it is read only", page)
		}
	}
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
	order := "/api/v1/pools/shop/endpoints/" + s.two + "/drain"
	for _, path := range []string{order, "/api/v1/alerts/silence?match=alert%3Dx&for=2h", "/api/v1/shed?class=low", "/api/v1/reload", "/api/v1/drain"} {
		if got := b.Eval(`fetch('` + path + `', {method: 'POST'}).then(r => r.json()).then(p => p.status + ' ' + p.reason)`); got != "403 role_needed" {
			t.Errorf("a reader posts %s by hand: %s", path, got)
		}
	}
	r, err := http.NewRequest("POST", "http://"+s.at["console"]+order, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+eye)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("with the token of a reader: status %d", resp.StatusCode)
	}
	before := s.asked[1].Load()
	until(t, "the endpoint is asked as before", func() bool { return s.asked[1].Load() > before+10 })
}
