package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/browser"
)

// promising is a rig that promises things.
func promising() *rig {
	r := newRig()
	r.deps.Objectives, r.deps.Alerts = r.node.Objectives, r.node.Alerts
	r.deps.Silence = func(o SilenceOrder) (Silence, error) {
		if o.Length > time.Hour {
			return Silence{}, errors.New("too long")
		}
		return Silence{ID: "s4", Matchers: o.Matchers, End: time.Now().Add(o.Length), By: o.By, Comment: o.Comment}, nil
	}
	r.deps.EndSilence = func(id string) error {
		if id != "s4" {
			return fmt.Errorf("there is no silence %q", id)
		}
		return nil
	}
	r.deps.TestAlert = func(name string) error {
		if name != "many-429" {
			return ErrUnknownAlert
		}
		return nil
	}
	return r
}

func TestObjectivesAPI(t *testing.T) {
	var o Objectives
	if err := json.Unmarshal(ask(New(promising().deps), "GET", "/api/v1/objectives").Body.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Objectives) != 4 || !o.Frozen {
		t.Fatalf("%+v", o)
	}
	for i, want := range []string{StateKept, StateBurning, StateSpent, StatePaging} {
		if got := o.Objectives[i].State; got != want {
			t.Errorf("%s is %s, want %s", o.Objectives[i].Name, got, want)
		}
	}
	for _, path := range []string{"/api/v1/objectives", "/api/v1/alerts"} {
		if body := ask(New(Deps{}), "GET", path).Body.String(); strings.Contains(body, "null") {
			t.Errorf("%s of a node without any: %s", path, body)
		}
	}
}

func TestAlertsAPI(t *testing.T) {
	h := New(promising().deps)
	q := url.Values{"for": {"10m"}, "match": {"alert=many-*", "route=a"}, "by": {"ada"}, "comment": {"known"}}
	w := ask(h, "POST", "/api/v1/alerts/silence?"+q.Encode())
	var x Silence
	if err := json.Unmarshal(w.Body.Bytes(), &x); err != nil || w.Code != http.StatusOK || x.Matchers["route"] != "a" || x.Comment != "known" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	for path, want := range map[string]string{
		"silence?match=a=b":          "400 bad_silence",
		"silence?for=1h&match=alert": "400 bad_silence",
		"silence?for=2h&match=a=b":   "400 bad_silence",
		"silences/s4/end":            "200 ",
		"silences/s5/end":            "404 unknown_silence",
		"test/many-429":              "202 ",
		"test/many-504":              "404 unknown_alert",
	} {
		w := ask(h, "POST", "/api/v1/alerts/"+path)
		var p Problem
		_ = json.Unmarshal(w.Body.Bytes(), &p)
		if got := fmt.Sprint(w.Code, " ", p.Reason); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if w := ask(New(Deps{}), "POST", "/api/v1/alerts/test/many-429"); w.Code != http.StatusNotImplemented {
		t.Errorf("status %d", w.Code)
	}
}

func TestObjectivesText(t *testing.T) {
	n := newFakeNode()
	n.now = func() time.Time { return time.Unix(1e9, 0) }
	var b strings.Builder
	if err := ObjectivesText(&b, n.Objectives().settle(n.now())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"checkout-available  99.9%   30d    99.962% of 5.91M", "62.0%", "page at 14.4x over 1 h and 5 min: now 0.31x and", "sees a total outage in 51.8s",
		"shop-available", "paging", "changes should wait", "experiments should end", "at this rate the budget is spent in"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := AlertsText(&b, n.Alerts().settle(n.now())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"burn-page (objective=shop-available window=14m)", "firing, silenced by s3", "silence s3 of alert=certificate-* host=old.example", "receiver desk, email: 12 told, 2 waiting, 0 lost; the mail server"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "reload-failed") {
		t.Error("what is over is listed")
	}
}

func TestObjectivesInBrowser(t *testing.T) {
	rig := promising()
	s := serveReal(t, New(rig.deps))
	b := browser.Open(t)
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/"})
	b.Until(`document.documentElement.dataset.views === '1'`)
	b.Eval(`[...document.querySelectorAll('.rail a')].find(a => a.textContent === 'Objectives').click()`)
	b.Until(`location.pathname === '/objectives' && document.documentElement.dataset.views >= '2'`)
	if got := b.Eval(`document.getElementById('promise-state').textContent`); got != "▲ burning fast" {
		t.Errorf("the page says %q", got)
	}
	if got := b.Eval(`document.querySelectorAll('.promise').length`); got != "4" {
		t.Errorf("%s objectives", got)
	}
	burn := `document.querySelector('#promise-shop-available td[data-label="Short window"] b').textContent`
	was := b.Eval(burn)
	b.Until(burn + ` !== '` + was + `'`) // figures move
	for _, look := range []struct {
		name, scheme string
		width        int
	}{{"light", "light", 1280}, {"dark", "dark", 1280}, {"phone", "light", 360}, {"phone-dark", "dark", 360}, {"narrow", "light", 800}} {
		b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": look.scheme}}})
		b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 500})
		if got := b.Eval(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, look.width)); got != "true" {
			t.Errorf("%s: at %d the page is %s px wide", look.name, look.width, b.Eval(`document.documentElement.scrollWidth`))
		}
	}
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}
