package e2e_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/even-keel/evenkeel/console"
)

// remembering is a gateway with a state folder before a service that answers everything.
func remembering(t *testing.T, state, more string) *gateway {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	t.Cleanup(service.Close)
	return runSite(t, fmt.Sprintf("name: shop\nstate_dir: %q\nlisteners: {web: {listen: \"127.0.0.1:0\"}}\npools: {shop: {endpoints: [%q]}}\nroutes: [{name: rest, pool: shop}]\nevents: {requests: {most: 1000/s}}\n%s",
		state, service.Listener.Addr().String(), more))
}

// call asks the console, or the service.
func (g *gateway) call(method, path string) (int, []byte) {
	g.t.Helper()
	where := g.at["console"]
	if strings.HasPrefix(path, "/web/") {
		where = g.at["web"]
	}
	r, err := http.NewRequest(method, "http://"+where+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	client := http.Client{Timeout: patience}
	a, err := client.Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v\n%s", method, path, err, g.talk())
	}
	defer a.Body.Close()
	body, _ := io.ReadAll(a.Body)
	return a.StatusCode, body
}

// rows asks a question.
func (g *gateway) rows(question string) (out [][]any) {
	g.t.Helper()
	for end := time.Now().Add(patience); ; {
		status, body := g.call("GET", "/api/v1/query?"+url.Values{"q": {question}}.Encode())
		var a console.QueryAnswer
		switch err := json.Unmarshal(body, &a); {
		case status == http.StatusOK && err == nil:
			return a.Rows
		case status != http.StatusServiceUnavailable || time.Now().After(end): // the store is not open yet
			g.t.Fatalf("%s: %d %s", question, status, body)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestKillLosesASecond kills the node again and again, at any moment of its writing: what was older than a second is there, marks that were
// confirmed are, and the file is whole.
func TestKillLosesASecond(t *testing.T) {
	const kills = 8
	state := t.TempDir()
	type sent struct {
		path string
		at   time.Time
	}
	var all []sent
	var marks []string
	for round := range kills {
		g := remembering(t, state, "")
		killed := time.Now().Add(900*time.Millisecond + time.Duration(round)*83*time.Millisecond)
		var mine []sent
		for i := 0; time.Now().Before(killed); i++ {
			path := fmt.Sprintf("/web/%d/%d", round, i)
			if status, _ := g.call("GET", path); status != http.StatusOK {
				t.Fatalf("%s is answered with %d", path, status)
			}
			mine = append(mine, sent{path, time.Now()})
			if i%100 == 50 {
				text := fmt.Sprintf("v%d.%d", round, i)
				if status, body := g.call("POST", "/api/v1/marks?by=&text="+text); status != http.StatusOK {
					t.Fatalf("a mark is answered with %d: %s", status, body)
				}
				marks = append(marks, text)
			}
		}
		g.gone = true
		if err := g.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		dead := time.Now()
		_ = g.cmd.Wait()
		for _, s := range mine {
			if dead.Sub(s.at) > time.Second {
				all = append(all, s)
			}
		}
		whole(t, filepath.Join(state, "events", "events.db"))
	}
	g := remembering(t, state, "")
	there := map[string]bool{}
	for _, row := range g.rows(`AppRequests | project Path | union (AppEvents | where Name == "mark" | project Path = Message)`) {
		there[fmt.Sprint(row[0])] = true
	}
	if len(all) < 20 || len(marks) < kills {
		t.Fatalf("only %d requests and %d marks were to be found", len(all), len(marks))
	}
	lost := 0
	for _, s := range all {
		if !there[s.path] {
			lost++
		}
	}
	for _, text := range marks {
		if !there[text] {
			t.Errorf("mark %s was confirmed and is gone", text)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d requests that were older than a second are gone", lost, len(all))
	}
	if left, err := os.ReadDir(filepath.Join(state, "events", "set-aside")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("put aside was %v, %v", left, err)
	}
}

// whole checks a file of events as SQLite itself does, with another program's connection.
func whole(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("after a kill: %s, %v", verdict, err)
	}
}

// TestFullDisk fills the file system of state_dir: requests are answered, one alert says it, and when there is room again events are kept.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("no small file system can be mounted (%v): a full disk is not tested end to end", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	g := remembering(t, filepath.Join(disk, "state"), "alerts: {every: 200ms}\nobjectives: [{name: ok, route: rest, target: 99%, window: 7d}]\n")
	mark := func(text string) {
		if status, body := g.call("POST", "/api/v1/marks?text="+text); status != http.StatusOK {
			t.Fatalf("a mark is answered with %d: %s", status, body)
		}
	}
	mark("before")
	fill(t, filepath.Join(disk, "junk"))
	for range 10 {
		mark("lost_or_late")
		for i := range 20 {
			if status, _ := g.call("GET", fmt.Sprintf("/web/%d", i)); status != http.StatusOK {
				t.Fatalf("a request is answered with %d while the disk is full", status)
			}
		}
	}
	var told []string
	for end := time.Now().Add(patience); len(told) == 0; {
		told = g.toldOfDisk()
		if time.Now().After(end) {
			t.Fatalf("no alert says that the disk is full:\n%s", g.talk())
		}
		<-time.After(50 * time.Millisecond)
	}
	<-time.After(time.Second) // others would follow
	if told = g.toldOfDisk(); strings.Join(told, " ") != "disk-full" {
		t.Errorf("told of are %q, want disk-full alone", told)
	}
	if err := os.Remove(filepath.Join(disk, "junk")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		_, body := g.call("GET", "/api/v1/records")
		if !strings.Contains(string(body), `"trouble"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("events are not written again: %s", body)
		}
		<-time.After(50 * time.Millisecond)
	}
	mark("after")
	if n := len(g.rows(`AppEvents | where Message in ("before", "after")`)); n != 2 {
		t.Errorf("%d of two marks are there", n)
	}
}

// toldOfDisk are the alerts about what cannot be written that somebody would be told of.
func (g *gateway) toldOfDisk() (names []string) {
	g.t.Helper()
	_, body := g.call("GET", "/api/v1/alerts")
	var a console.Alerts
	if err := json.Unmarshal(body, &a); err != nil {
		g.t.Fatal(err)
	}
	for _, one := range a.Alerts {
		if one.State == "firing" && one.Inhibited == "" && (one.Name == "disk-full" || one.Name == "state-not-kept") {
			names = append(names, one.Name)
		}
	}
	return names
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				break
			}
		}
	}
}
