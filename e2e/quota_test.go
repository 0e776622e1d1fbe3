package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// quotaSite is a site that counts calls and bytes of customers.
func quotaSite(t testing.TB, dir, listen string) string {
	address := service(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	return fmt.Sprintf(`
state_dir: %s
identify: {customer: {header: X-Key}}
listeners: {web: {listen: "%s"}}
pools: {shop: {endpoints: ["%s"], shed: {mode: "off"}}}
quotas: [{name: monthly, by: customer, calls: 1000000000, bytes: 1000GiB, period: month}]
`, dir, listen, address)
}

// used asks how many calls of the customer k are counted.
func used(t testing.TB, console string) (calls, bytes int64) {
	t.Helper()
	resp, err := http.Get("http://" + console + "/api/v1/limits/explain?path=/&header=X-Key:k")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e struct {
		Quotas []struct {
			Calls int64 `json:"used_calls"`
			Bytes int64 `json:"used_bytes"`
		} `json:"quotas"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || len(e.Quotas) != 1 {
		t.Fatalf("explain: %v, %+v", err, e)
	}
	return e.Quotas[0].Calls, e.Quotas[0].Bytes
}

// callers send requests until they are stopped.
type callers struct {
	mu       sync.Mutex
	sent     int64
	answered []time.Time // when each answer was there, in order
	stop     chan struct{}
	wg       sync.WaitGroup
}

// call begins to send from two goroutines. fresh: a connection for each request.
func call(t testing.TB, web string, fresh bool) *callers {
	c := &callers{stop: make(chan struct{})}
	for range 2 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: fresh}, Timeout: patience}
		c.wg.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				r, _ := http.NewRequest("POST", "http://"+web+"/", nil) // POST: never sent twice
				r.Header.Set("X-Key", "k")
				c.mu.Lock()
				c.sent++
				c.mu.Unlock()
				resp, err := client.Do(r)
				if err != nil {
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
					return
				}
				c.mu.Lock()
				c.answered = append(c.answered, time.Now())
				c.mu.Unlock()
			}
		})
	}
	return c
}

func (c *callers) end() {
	close(c.stop)
	c.wg.Wait()
}

// before is how many answers were there at a time.
func (c *callers) before(at time.Time) (n int64) {
	for _, a := range c.answered {
		if a.Before(at) {
			n++
		}
	}
	return n
}

// TestQuotasOutliveKills kills the program at random moments under load. What was counted before the last write to a journal is
// there after the restart, and nothing is there that was not sent.
func TestQuotasOutliveKills(t *testing.T) {
	dir := t.TempDir()
	text := quotaSite(t, dir, "127.0.0.1:0")
	r := rand.New(rand.NewPCG(1, 7))
	total, rounds, oldest := int64(0), 10, time.Duration(0)
	for round := range rounds {
		began := time.Now()
		g := runSite(t, text)
		base, _ := used(t, g.at["console"])
		if base < total {
			t.Fatalf("round %d: %d calls after the start, want %d", round, base, total)
		}
		c := call(t, g.at["web"], false)
		<-time.After(time.Duration(r.Int64N(int64(2500 * time.Millisecond))))
		killed := time.Now()
		g.kill()
		c.end()
		wrote, ok := lastWrite(t, dir)
		if ok && wrote.After(began) {
			oldest = max(oldest, killed.Sub(wrote))
			// A write begins a moment before its time, with what was counted by then.
			total = base + c.before(wrote.Add(-500*time.Millisecond))
		} else {
			total = base
		}
		next := runSite(t, text)
		got, bytes := used(t, next.at["console"])
		next.kill()
		if got < total || got > base+c.sent {
			t.Fatalf("round %d: %d calls are counted after a kill; %d were before, %d sent since, %d answered half a second before the last write", round, got, base, c.sent, total-base)
		}
		if bytes > 5*got {
			t.Fatalf("round %d: %d bytes for %d calls", round, bytes, got)
		}
		total = got
		t.Logf("round %d: %d calls, %d of %d since the start kept, last write %v before the kill", round, got, got-base, c.sent, killed.Sub(wrote))
	}
	if total == 0 {
		t.Error("nothing was kept in any round")
	}
	if oldest > 10*time.Second {
		t.Errorf("the last write was %v old, want about a second", oldest)
	}
}

// lastWrite is when a journal was last written to.
func lastWrite(t testing.TB, dir string) (at time.Time, ok bool) {
	list, _ := filepath.Glob(filepath.Join(dir, "quotas", "journal-*"))
	for _, path := range list {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, ".new") && st.ModTime().After(at) {
			at, ok = st.ModTime(), true
		}
	}
	return at, ok
}

// TestDamagedQuotaFile: a file that is not what it should be is told of and set aside as it is, and the program serves.
func TestDamagedQuotaFile(t *testing.T) {
	dir := t.TempDir()
	text := quotaSite(t, dir, "127.0.0.1:0")
	folder := filepath.Join(dir, "quotas")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	const foreign = "these are not the quotas that you are looking for\n"
	path := filepath.Join(folder, "snapshot")
	if err := os.WriteFile(path, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	g := runSite(t, text)
	calls, _ := used(t, g.at["console"])
	if calls != 0 {
		t.Errorf("%d calls out of nothing", calls)
	}
	aside, _ := filepath.Glob(path + ".corrupt-*")
	if len(aside) != 1 {
		t.Fatalf("set aside are %v", aside)
	}
	if kept, _ := os.ReadFile(aside[0]); string(kept) != foreign {
		t.Errorf("what was set aside holds %q", kept)
	}
	for _, want := range []string{path + " was not read", "at byte 0", "it was set aside as " + aside[0]} {
		if !strings.Contains(g.talk(), want) {
			t.Errorf("the log lacks %q:\n%s", want, g.talk())
		}
	}
	c := call(t, g.at["web"], false)
	until(t, "calls are counted", func() bool { n, _ := used(t, g.at["console"]); return n > 10 })
	c.end()
}

// TestQuotasThroughUpgrade: while the successor takes over, both processes count, and in the end nothing is missing and nothing
// is there twice.
func TestQuotasThroughUpgrade(t *testing.T) {
	text := quotaSite(t, t.TempDir(), "127.0.0.1:"+freePort(t))
	g := runSite(t, text)
	c := call(t, g.at["web"], true)
	until(t, "calls are counted", func() bool { n, _ := used(t, g.at["console"]); return n > 50 })
	g.gone = true
	if err := g.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	// Not Wait of cmd: it would close the pipe that the successor writes to.
	if _, err := g.cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, g.at["console"])
	if pid == g.cmd.Process.Pid {
		t.Fatal("nobody took over")
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	c.end()
	if got := int64(len(c.answered)); got != c.sent {
		t.Fatalf("%d of %d were answered", got, c.sent)
	}
	until(t, fmt.Sprintf("%d calls are counted", c.sent), func() bool {
		n, bytes := used(t, g.at["console"])
		if n > c.sent {
			t.Fatalf("%d calls are counted of %d", n, c.sent)
		}
		return n == c.sent && bytes == 5*c.sent
	})
}

// pidOf is the process that answers at a console.
func pidOf(t testing.TB, console string) int {
	t.Helper()
	resp, err := http.Get("http://" + console + "/api/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct {
		Node struct{ PID int } `json:"node"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v.Node.PID
}
