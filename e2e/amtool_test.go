package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAmtool: Debian's amtool shows alerts and administers silences, as with an Alertmanager; what it makes holds here, and only with the role.
func TestAmtool(t *testing.T) {
	need(t, "amtool")
	dir := t.TempDir()
	text := `
name: am
state_dir: ` + dir + `/state
admin:
  tokens:
    - {name: eye, token: "reads-all-day-long", role: read}
    - {name: hand, token: "operates-all-night-long", role: operate}
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {gone: {endpoints: ["127.0.0.1:1"], probe: {every: 50ms, fall: 1}}}
alerts: {every: 100ms, rules: {pool-capacity: {for: 1ms}}}
`
	g := runSite(t, text)
	config := func(token string) string {
		file := filepath.Join(dir, token+".yml")
		if err := os.WriteFile(file, []byte("authorization: {credentials: "+token+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	reader, operator := config("reads-all-day-long"), config("operates-all-night-long")
	amtool := func(file string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "amtool", append([]string{"--alertmanager.url=http://" + g.at["console"], "--http.config.file=" + file, "--no-version-check"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	var list string
	until(t, "amtool shows the alert", func() bool {
		list, _ = amtool(reader, "alert", "query", "alertname=pool-capacity")
		return strings.Contains(list, "pool-capacity")
	})
	if out, err := amtool(reader, "silence", "add", "alertname=pool-capacity", "--comment=drill"); err == nil {
		t.Errorf("a reader makes a silence: %s", out)
	}
	id, err := amtool(operator, "silence", "add", "alertname=~pool-.*", "pool=gone", "--duration=1h", "--author=ada", "--comment=drill")
	if err != nil {
		t.Fatalf("%v: %s", err, id)
	}
	id = strings.TrimSpace(id)
	if out, err := amtool(reader, "silence", "query"); err != nil || !strings.Contains(out, id) || !strings.Contains(out, `alertname=~"pool-.*"`) || !strings.Contains(out, "ada (hand)") {
		t.Errorf("silences are shown as %v: %s", err, out)
	}
	if out, err := amtool(reader, "alert", "query", "--silenced", "-o", "json"); err != nil || !strings.Contains(out, `"silencedBy":["`+id+`"]`) {
		t.Errorf("the alert is shown as %v: %s", err, out)
	}
	if out, err := amtool(reader, "alert", "query"); err != nil || strings.Contains(out, "pool-capacity") {
		t.Errorf("a silenced alert is active: %v: %s", err, out)
	}
	if out, err := amtool(operator, "silence", "add", "alertname!=x", "--comment=drill"); err == nil || !strings.Contains(out, "silences here say what they are about") {
		t.Errorf("what cannot be done is told as %v: %s", err, out)
	}
	if out, err := amtool(operator, "silence", "expire", id); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := amtool(reader, "alert", "query"); err != nil || !strings.Contains(out, "pool-capacity") {
		t.Errorf("after the end of the silence: %v: %s", err, out)
	}

	want := "hand DELETE /api/v2/silence/ID true; hand POST /api/v2/silences false; hand POST /api/v2/silences true; eye POST /api/v2/silences false"
	if got := strings.ReplaceAll(recorded(t, g.at["console"], "reads-all-day-long"), id, "ID"); got != want {
		t.Errorf("recorded was %s, want %s", got, want)
	}
}

// recorded are the actions of people that a node remembers, the newest first.
func recorded(t *testing.T, console, token string) string {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+console+"/api/v1/access", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct {
		Actions []struct {
			Who, What string
			OK        bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range v.Actions {
		got = append(got, fmt.Sprintf("%s %s %v", a.Who, a.What, a.OK))
	}
	return strings.Join(got, "; ")
}
