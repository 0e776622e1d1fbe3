package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// browser is a headless Chromium driven through two pipes by its DevTools protocol: commands and answers are JSON, each ended by a zero byte.
type browser struct {
	t       *testing.T
	in      *os.File
	pipe    *os.File // what out reads from
	out     *bufio.Reader
	session string
	id      int
	talk    []string // what the page's console said
}

// openBrowser starts Chromium with an empty page. It skips, saying what stays untested, when there is none.
func openBrowser(t *testing.T) *browser {
	path := "/usr/bin/chromium"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no " + path + ": that the page's script runs under its content security policy, draws, and asks before it changes was not tested")
	}
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	b := &browser{t: t, in: in, pipe: out, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Write([]byte(`{"id":0,"method":"Browser.close"}` + "\x00"))
		end := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		end.Stop()
		in.Close()
		out.Close()
	})
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	b.call("Runtime.enable", nil)
	b.call("Log.enable", nil)
	return b
}

// call sends one command and waits for its answer.
func (b *browser) call(method string, params any) map[string]any {
	b.t.Helper()
	r, trouble := b.try(method, params)
	if trouble != nil {
		b.t.Fatalf("%s: %v", method, trouble)
	}
	return r
}

// try is call for commands that the browser may refuse.
func (b *browser) try(method string, params any) (result map[string]any, trouble any) {
	b.t.Helper()
	b.id++
	command := map[string]any{"id": b.id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	data, err := json.Marshal(command)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(data, 0)); err != nil {
		b.t.Fatal(err)
	}
	b.pipe.SetReadDeadline(time.Now().Add(60 * time.Second))
	for {
		data, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var m struct {
			ID     int
			Method string
			Result map[string]any
			Error  any
		}
		if err := json.Unmarshal(data[:len(data)-1], &m); err != nil {
			b.t.Fatal(err)
		}
		switch m.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			b.talk = append(b.talk, string(data[:len(data)-1]))
		}
		if m.ID == b.id {
			return m.Result, m.Error
		}
	}
}

// until waits at most 15 seconds for a JavaScript condition. The page may be left for another one meanwhile.
func (b *browser) until(condition string) {
	b.t.Helper()
	js := fmt.Sprintf(`new Promise(done => setTimeout(() => done(Boolean(%s)), 50))`, condition)
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		r, trouble := b.try("Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true})
		if trouble != nil {
			continue
		}
		if value, _ := r["result"].(map[string]any); value["value"] == true {
			return
		}
	}
	b.t.Fatalf("never came true: %s\nthe console said: %s", condition, strings.Join(b.talk, "\n"))
}

// eval runs JavaScript in the page and returns its value as text.
func (b *browser) eval(js string) string {
	b.t.Helper()
	r := b.call("Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if e := r["exceptionDetails"]; e != nil {
		b.t.Fatalf("%s: %v", js, e)
	}
	return fmt.Sprint(r["result"].(map[string]any)["value"])
}

func TestPageInBrowser(t *testing.T) {
	rig := newRig()
	s := serveReal(t, New(rig.deps))
	b := openBrowser(t) // after the server: it leaves first, and so ends its streams
	b.call("Page.navigate", map[string]any{"url": s.URL + "/pools/shop"})
	b.until(`document.readyState === 'complete' && document.documentElement.dataset.views === '1'`)
	first := b.eval(`document.querySelector('.pace b').textContent`)

	// Focus on a button must outlive new views; the figures must move under it.
	row := `document.getElementById('ep-shop-10.0.1.2:8000')`
	b.eval(row + `.querySelector('button').focus()`)
	b.until(`Number(document.documentElement.dataset.views) >= 3`)
	if second := b.eval(`document.querySelector('.pace b').textContent`); second == first {
		t.Errorf("the rate stands still at %s", first)
	}
	if got := b.eval(row + `.contains(document.activeElement)`); got != "true" {
		t.Error("a new view took the focus away")
	}
	if got := b.eval(`document.getElementById('link').textContent`); got != "◉ live" {
		t.Errorf("the link says %q", got)
	}

	// A change is asked about first; no leaves all as it is, yes does it, shows it and says it.
	b.eval(row + `.querySelector('button').click()`)
	b.until(`document.getElementById('ask').open`)
	b.eval(`document.querySelector('#ask button[value=no]').click()`)
	b.until(`!document.getElementById('ask').open`)
	b.eval(row + `.querySelector('button').click()`)
	b.until(`document.getElementById('ask').open && document.getElementById('ask-title').textContent === 'Drain 10.0.1.2:8000?'`)
	rig.node.mu.Lock()
	early := len(rig.node.admin)
	rig.node.mu.Unlock()
	if early != 0 {
		t.Error("the node was told before the answer was yes")
	}
	b.eval(`document.getElementById('ask-yes').click()`)
	b.until(row + `.dataset.state === 'draining'`)
	b.until(`document.getElementById('say').textContent.length > 0`)

	// At the width of a phone nothing sticks out.
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": true})
	if got := b.eval(`document.documentElement.scrollWidth <= 360`); got != "true" {
		t.Errorf("on a phone the page is %s px wide", b.eval(`document.documentElement.scrollWidth`))
	}
	if len(b.talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.talk, "\n"))
	}
}

func TestOverloadInBrowser(t *testing.T) {
	rig := newRig()
	rig.node.now = func() time.Time { return time.Unix(600*2_000_000+44+int64(rig.node.ticks()), 0) } // at the height of the wave
	rig.deps.Now = rig.node.now
	s := serveReal(t, New(rig.deps))
	b := openBrowser(t)
	b.call("Page.navigate", map[string]any{"url": s.URL + "/"})
	b.until(`document.documentElement.dataset.views === '1'`)
	b.eval(`document.querySelector('#alarm a').click()`) // the node's own page leads there
	b.until(`location.pathname === '/overload' && document.documentElement.dataset.views >= '2'`)
	if got := b.eval(`document.getElementById('load-state').textContent`); got != "▲ overloaded" {
		t.Errorf("the page says %q", got)
	}
	if got := b.eval(`document.querySelectorAll('.chart').length`); got != "4" {
		t.Errorf("%s charts", got)
	}
	// Charts move, and the page does not: what stands below stays where it is.
	path := b.eval(`document.querySelector('#chart-node .c-standard[d]').getAttribute('d')`)
	top := b.eval(`document.getElementById('h-refused').getBoundingClientRect().top`)
	seen := b.eval(`document.documentElement.dataset.views`)
	b.until(`Number(document.documentElement.dataset.views) >= ` + seen + ` + 2`)
	if b.eval(`document.querySelector('#chart-node .c-standard[d]').getAttribute('d')`) == path {
		t.Error("the chart stands still")
	}
	if now := b.eval(`document.getElementById('h-refused').getBoundingClientRect().top`); now != top {
		t.Errorf("what stands below moved from %s to %s", top, now)
	}

	// Refusing by hand is asked about, and shown with the way back.
	b.eval(`document.querySelector('#load-shop .acts button').click()`)
	b.until(`document.getElementById('ask').open && document.getElementById('ask-title').textContent === 'Refuse low requests of pool shop for ten minutes?'`)
	b.eval(`document.getElementById('ask-yes').click()`)
	b.until(`document.querySelector('#load-shop .acts button').textContent === 'Let low in again'`)
	if got := b.eval(`document.querySelector('#load-shop .note').textContent`); !strings.Contains(got, "Refused by hand: low for") {
		t.Errorf("the note says %q", got)
	}
	for _, width := range []int{360, 800} {
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
		if got := b.eval(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, width)); got != "true" {
			t.Errorf("at %d the page is %s px wide", width, b.eval(`document.documentElement.scrollWidth`))
		}
	}
	if len(b.talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.talk, "\n"))
	}
}

func TestLoginInBrowser(t *testing.T) {
	rig := newRig()
	rig.deps.Token = secret
	s := serveReal(t, New(rig.deps))
	b := openBrowser(t)
	b.call("Page.navigate", map[string]any{"url": s.URL + "/"})
	b.until(`document.readyState === 'complete' && document.getElementById('token')`)
	b.eval(`document.getElementById('token').value = 'wrong'; document.querySelector('button').click()`)
	b.until(`document.readyState === 'complete' && document.getElementById('wrong')`)
	b.talk = nil // browsers note the 401
	b.eval(`document.getElementById('token').value = '` + secret + `'; document.querySelector('button').click()`)
	b.until(`document.documentElement.dataset.views === '1'`)
	if len(b.talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.talk, "\n"))
	}
	if got := b.eval(`fetch('/api/v1/reload', {method: 'POST'}).then(r => r.status)`); got != fmt.Sprint(http.StatusOK) {
		t.Errorf("a change with the session: status %s", got)
	}
}
