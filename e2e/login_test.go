package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// visitor is a browser with a jar of one cookie.
type visitor struct {
	t      *testing.T
	base   string
	cookie *http.Cookie
}

func (v *visitor) do(method, path string, form url.Values) (status int, body string) {
	v.t.Helper()
	req, err := http.NewRequest(method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Origin", v.base)
	if v.cookie != nil {
		req.AddCookie(v.cookie)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	if list := resp.Cookies(); len(list) > 0 {
		v.cookie = list[0]
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestSignedInOverRestarts: who signed in stays so over a restart, an upgrade and a reload, until the token is taken back; and every change is in the log.
func TestSignedInOverRestarts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "site.yaml")
	text := func(token string) []byte {
		return []byte(`
name: door
state_dir: ` + dir + `/state
admin: {tokens: [{name: hand, token: "` + token + `", role: operate}]}
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {gone: {endpoints: ["127.0.0.1:1"], probe: {off: true}}}
`)
	}
	if err := os.WriteFile(file, text("operates-all-night-long"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(t)
	g := run(t, "-f", file, "--admin", address)
	v := &visitor{t: t, base: "http://" + address}
	if code, _ := v.do("GET", "/api/v1/status", nil); code != http.StatusUnauthorized {
		t.Fatalf("without a token: %d", code)
	}
	if code, body := v.do("POST", "/login", url.Values{"token": {"operates-all-night-long"}}); code != http.StatusSeeOther || v.cookie == nil {
		t.Fatalf("signing in: %d %s", code, body)
	}
	if code, body := v.do("POST", "/api/v1/reload", nil); code != http.StatusOK {
		t.Errorf("a change: %d %s", code, body)
	}
	if !strings.Contains(g.talk(), "event=audit who=hand role=operate via=token from=127.0.0.1") || strings.Contains(g.talk(), "operates-all-night-long") {
		t.Errorf("the log says:\n%s", g.talk())
	}
	g.end()
	g.gone = true

	g = run(t, "-f", file, "--admin", address)
	if code, body := v.do("GET", "/api/v1/access", nil); code != http.StatusOK || !strings.Contains(body, `"you": true`) {
		t.Errorf("after a restart: %d %s", code, body)
	}
	g.gone = true
	if err := g.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	if _, err := g.cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	var now struct {
		Node struct{ PID int } `json:"node"`
	}
	if code, body := v.do("GET", "/api/v1/status", nil); code != http.StatusOK || json.Unmarshal([]byte(body), &now) != nil || now.Node.PID == g.cmd.Process.Pid {
		t.Fatalf("after an upgrade: %d %s", code, body)
	}
	t.Cleanup(func() { _ = syscall.Kill(now.Node.PID, syscall.SIGKILL) })
	if err := os.WriteFile(file, text("another-hand-at-the-helm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, body := v.do("POST", "/api/v1/reload", nil); code != http.StatusOK && code != http.StatusUnauthorized { // it may have been seen already
		t.Errorf("reload: %d %s", code, body)
	}
	until(t, "the session is over with its token", func() bool {
		code, _ := v.do("GET", "/api/v1/status", nil)
		return code == http.StatusUnauthorized
	})
	v.cookie = nil
	if code, _ := v.do("POST", "/login", url.Values{"token": {"another-hand-at-the-helm"}}); code != http.StatusSeeOther {
		t.Errorf("with the new token: %d", code)
	}
	if code, body := v.do("POST", "/api/v1/drain", nil); code != http.StatusAccepted {
		t.Errorf("drain: %d %s", code, body)
	}
	until(t, "the successor has ended", func() bool { code, _ := v.do("GET", "/api/v1/status", nil); return code == 0 })
}

// TestWriterToken: a node sends its samples to another with a token that may do nothing else there.
func TestWriterToken(t *testing.T) {
	const site = "listeners: {web: {listen: \"127.0.0.1:0\"}}\npools: {none: {endpoints: [\"127.0.0.1:1\"], probe: {off: true}}}\n"
	receiver := runSite(t, site+`admin: {tokens: [{name: agent, role: write, token: "writes-samples-and-no-more"}, {name: eye, role: read, token: "reads-all-day-long"}]}`+"\n")
	at := "http://" + receiver.at["console"]
	show := func(method, path, token string) (status int, body string) {
		req, err := http.NewRequest(method, at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Timeout: patience}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	for _, c := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/metrics"}, {"GET", "/api/v1/status"}, {"GET", "/prometheus/api/v1/query?query=up"}, {"POST", "/prometheus/api/v1/query"},
		{"POST", "/api/v1/reload"}, {"POST", "/api/v1/drain"}, {"POST", "/api/v1/marks?text=v42"}} {
		if code, body := show(c.method, c.path, "writes-samples-and-no-more"); code != http.StatusForbidden || !strings.Contains(body, "agent has write") {
			t.Errorf("%s %s with the agent's token: %d %s", c.method, c.path, code, body)
		}
	}
	runSite(t, site+"monitor: {scrape_every: 1s, remote_write: [{url: \""+at+"/prometheus/api/v1/write\", token: writes-samples-and-no-more, labels: {site: sender}}]}\n")
	until(t, "samples of the sender are there", func() bool {
		code, body := show("GET", "/prometheus/api/v1/query?query="+url.QueryEscape(`up{site="sender",job="evenkeel"}`), "reads-all-day-long")
		return code == http.StatusOK && strings.Contains(body, `"1"`)
	})
}
