// Package browser drives a headless Chromium, for tests of what people see and do in the console.
package browser

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// axe is axe-core, which looks for what keeps people out.
//
//go:embed axe/axe.min.js
var axe string

// Browser is a headless Chromium driven through two pipes by its DevTools protocol: commands and answers are JSON, each ended by a zero byte.
type Browser struct {
	t       testing.TB
	in      *os.File
	pipe    *os.File // what out reads from
	out     *bufio.Reader
	session string
	id      int
	Talk    []string // what the page's console said
}

// Open starts Chromium with an empty page. It skips, saying what stays untested, when there is none.
func Open(t testing.TB) *Browser {
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
	b := &Browser{t: t, in: in, pipe: out, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Write([]byte(`{"id":0,"method":"Browser.close"}` + "\x00"))
		end := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		end.Stop()
		in.Close()
		out.Close()
	})
	target := b.Call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.Call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	b.Call("Runtime.enable", nil)
	b.Call("Log.enable", nil)
	return b
}

// Call sends one command and waits for its answer.
func (b *Browser) Call(method string, params any) map[string]any {
	b.t.Helper()
	r, trouble := b.Try(method, params)
	if trouble != nil {
		b.t.Fatalf("%s: %v", method, trouble)
	}
	return r
}

// Try is Call for commands that the browser may refuse.
func (b *Browser) Try(method string, params any) (result map[string]any, trouble any) {
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
			b.Talk = append(b.Talk, string(data[:len(data)-1]))
		}
		if m.ID == b.id {
			return m.Result, m.Error
		}
	}
}

// Until waits at most 15 seconds for a JavaScript condition. The page may be left for another one meanwhile, and need not run scripts of its own.
func (b *Browser) Until(condition string) {
	b.t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-time.After(30 * time.Millisecond) {
		r, trouble := b.Try("Runtime.evaluate", map[string]any{"expression": "Boolean(" + condition + ")", "returnByValue": true})
		if trouble != nil {
			continue
		}
		if value, _ := r["result"].(map[string]any); value["value"] == true {
			return
		}
	}
	b.t.Fatalf("never came true: %s\nthe console said: %s", condition, strings.Join(b.Talk, "\n"))
}

// Eval runs JavaScript in the page and returns its value as text.
func (b *Browser) Eval(js string) string {
	b.t.Helper()
	r := b.Call("Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if e := r["exceptionDetails"]; e != nil {
		b.t.Fatalf("%s: %v", js, e)
	}
	return fmt.Sprint(r["result"].(map[string]any)["value"])
}

// Look sets the colours and the width.
func (b *Browser) Look(scheme string, width int) {
	b.t.Helper()
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}}})
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
}

// Judge is what axe-core finds on the page that is serious or critical; empty: nothing.
func (b *Browser) Judge() string {
	b.t.Helper()
	if b.Eval(`String(window.axe !== undefined)`) != "true" {
		b.Eval(axe + `;0`)
	}
	return b.Eval(`axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
		.map(v => v.id + ': ' + v.help + '\n' + v.nodes.slice(0, 4).map(n => '    ' + n.target.join(' ') + ' ' + (n.any[0] || n.all[0] || n.none[0] || {}).message).join('\n')).join('\n'))`)
}

// Go loads a page, and waits until it is there.
func (b *Browser) Go(url string) {
	b.t.Helper()
	b.Eval(`window.left = true; 0`)
	b.Call("Page.navigate", map[string]any{"url": url})
	b.Until(`window.left === undefined && document.readyState === 'complete'`)
}

// Click presses and releases the mouse on an element, as people do: what lies over it would be hit instead.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	var at [2]float64
	where := b.Eval(fmt.Sprintf(`(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); return (r.left + r.width / 2) + ' ' + (r.top + r.height / 2); })(document.querySelector(%q))`, selector))
	if _, err := fmt.Sscan(where, &at[0], &at[1]); err != nil {
		b.t.Fatalf("%s is at %q: %v", selector, where, err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1})
	}
}

// Press presses and releases a key: Tab, Enter, Escape, ArrowLeft; " " is the space bar.
func (b *Browser) Press(key string) {
	b.t.Helper()
	code := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}[key]
	down := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": code}
	if text := map[string]string{"Enter": "\r", " ": " "}[key]; text != "" {
		down["text"] = text
	}
	b.Call("Input.dispatchKeyEvent", down)
	b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": code})
}
