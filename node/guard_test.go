package node

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/admit/guard"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestGuardInFlight(t *testing.T) {
	g := newGuard(40)
	s := &guardEntry{selfGuard: g}
	refused := 0
	// Every exchange stays open until the end, each on another shard.
	var enter func(left int)
	enter = func(left int) {
		if left == 0 {
			return
		}
		x := &exchange.Exchange{Shard: uint32(left)}
		if r := s.Serve(x, exchange.Then(func(*exchange.Exchange) *exchange.Refusal { enter(left - 1); return nil })); r != nil {
			if refused++; x.RetryAfter < guardWait || x.RetryAfter >= guardWait+guardJitter {
				t.Errorf("come back after %v", x.RetryAfter)
			}
			enter(left - 1)
		}
	}
	enter(200)
	// Batches keep some places from shards that need them; the limit itself is never passed.
	if refused < 160 || refused > 190 {
		t.Errorf("%d of 200 refused with 40 places", refused)
	}
	if n := g.inFlight(); n != 0 {
		t.Errorf("%d in flight after all ended", n)
	}
	if r := s.Serve(&exchange.Exchange{}, exchange.Then(ok)); r != nil {
		t.Errorf("refused when nothing is in flight: %v", r)
	}
	if st := g.Status(); st.Refused != uint64(refused) || st.FlightShare != 0 {
		t.Errorf("status %+v, want %d refused", st, refused)
	}
}

// classRoutes are routes of all classes.
func classRoutes() []*site.Route {
	return []*site.Route{
		{Name: "pay", Paths: []string{"/pay"}, Pool: "shop", Class: site.ClassCritical},
		{Name: "ads", Paths: []string{"/ads"}, Pool: "shop", Class: site.ClassLow},
		{Name: "rest", Pool: "shop"},
	}
}

// refusedOf sends n requests for a path and counts who refused.
func refusedOf(t *testing.T, st *stages, path string, n int) (refused int) {
	t.Helper()
	h := st.serveHTTP(ok)
	for range n {
		if r := h(request(t, "GET "+path+" HTTP/1.1\nHost: a")); r != nil {
			if r.Stage != "guard" || r.Status != 503 {
				t.Fatalf("refused by %s: %s", r.Stage, r.Reason)
			}
			refused++
		}
	}
	return refused
}

func TestGuardRefusesByClass(t *testing.T) {
	for name, routes := range map[string][]*site.Route{"classes": classRoutes(), "one class": {{Name: "all", Pool: "shop"}}} {
		st := newStages(new(fakePool), routes...)
		st.entry.blind = name == "one class" // the test's trusted proxies may raise a class
		g := st.entry.selfGuard
		o := guard.Orders{Why: guard.Scheduler, Watch: true}
		o.Refuse[exchange.Low], o.Refuse[exchange.Standard] = 1, 0.5
		g.apply(o, &site.Guard{Mode: site.ModeOn})
		if n := refusedOf(t, st, "/", 2000); n < 850 || n > 1150 {
			t.Errorf("%s: %d of 2000 standard requests refused, want half", name, n)
		}
		demand := g.demandNow()
		if name == "classes" {
			if low, critical := refusedOf(t, st, "/ads", 100), refusedOf(t, st, "/pay", 100); low != 100 || critical != 0 {
				t.Errorf("%d of 100 low and %d of 100 critical requests refused, want all and none", low, critical)
			}
			if d := g.demandNow(); d != [3]uint64{0, 100, 100} {
				t.Errorf("demand by class %v, want 100 critical and low ones", d)
			}
		}
		if demand != [3]uint64{2000, 0, 0} {
			t.Errorf("%s: demand by class %v, want 2000 standard requests", name, demand)
		}
		before := g.Status()
		g.apply(o, &site.Guard{Mode: site.ModeDryRun})
		if n := refusedOf(t, st, "/", 1000); n != 0 {
			t.Errorf("%s: %d refused in a dry run", name, n)
		}
		if now := g.Status(); now.WouldRefuse < 400 || now.Refused != before.Refused {
			t.Errorf("%s: dry run counted %+v", name, now)
		}
		g.demandNow()
		g.apply(guard.Orders{Streams: 1}, &site.Guard{Mode: site.ModeOn})
		if n := refusedOf(t, st, "/", 100); n != 0 || g.level.Load() != 0 || g.demandNow() != [3]uint64{} {
			t.Errorf("%s: %d refused in calm, level %x", name, n, g.level.Load())
		}
	}
}

// TestGuardFirstLook: who may raise its class is not refused before it is known.
func TestGuardFirstLook(t *testing.T) {
	web := &site.Listener{Name: "web"}
	one := []*site.Route{{Name: "all", Pool: "shop", Class: site.ClassLow}}
	for name, k := range map[string]struct {
		site *site.Site
		want bool
	}{
		"one class":      {&site.Site{Routes: one}, true},
		"customers":      {&site.Site{Routes: one, Identify: site.Identify{Customers: []site.Customer{{ID: "a", Class: site.ClassCritical}}}}, false},
		"weights":        {&site.Site{Routes: one, Identify: site.Identify{Customers: []site.Customer{{ID: "a"}}}}, true},
		"other listener": {&site.Site{Routes: append([]*site.Route{{Name: "x", Listeners: []string{"tls"}, Class: site.ClassCritical}}, one...)}, true},
		"classes":        {&site.Site{Routes: classRoutes()}, false},
	} {
		if class, ok := single(k.site, web); ok != k.want || ok && class != exchange.Low {
			t.Errorf("%s: %v, %v", name, class, ok)
		}
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	st := newStages(new(fakePool), classRoutes()...)
	o := guard.Orders{Why: guard.Memory, Watch: true, Refuse: [3]float64{1, 1, 1}}
	st.entry.apply(o, &site.Guard{Mode: site.ModeOn})
	h, x := st.serveHTTP(ok), request(t, "GET / HTTP/1.1\nHost: a")
	r := x.Request
	if n := testing.AllocsPerRun(200, func() {
		h(x)
		x.Reset()
		x.Request = r
	}); n != 0 {
		t.Errorf("%v allocations per refusal, want 0", n)
	}
}

// TestPanicsKeepNoPlace: a stage that panics costs one request, and nothing stays counted for it.
func TestPanicsKeepNoPlace(t *testing.T) {
	p := &fakePool{keep: true}
	st := newStages(p, &site.Route{Name: "all", Pool: "shop"})
	h := st.serveHTTP(func(*exchange.Exchange) *exchange.Refusal { panic("test") })
	for range 50 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not reach the engine")
				}
			}()
			h(request(t, "GET / HTTP/1.1\nHost: a"))
		}()
	}
	open := int64(0)
	for i := range p.ends {
		open += p.ends[i].InFlight.Load()
	}
	if n, f := st.entry.inFlight(), st.record.flight.sum(); n != 0 || f != 0 || open != 0 {
		t.Errorf("in flight after panics: %d of the guard, %d of the listener, %d of endpoints", n, f, open)
	}
	for _, r := range p.done {
		if r.Kind != exchange.Cancelled {
			t.Fatalf("the pool learned %+v from a panic", r)
		}
	}
}

// writeFiles makes files below a folder.
func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMemoryShare(t *testing.T) {
	const page = 4096
	if os.Getpagesize() != page {
		t.Skip("not tested: the numbers are for pages of 4 KiB")
	}
	// 1 GB of pages are resident.
	statm := "500000 250000 1000 100 0 1000 0\n"
	stat := "anon 1000\ninactive_file 500000000\nsock 1000000\nkernel 2000000\n"
	for name, k := range map[string]struct {
		files map[string]string
		want  float64
	}{
		"v2": {map[string]string{"proc/self/cgroup": "0::/a\n", "cg/a/memory.max": "2000000000", "cg/a/memory.current": "2000000000", "cg/a/memory.stat": stat}, 0.75},
		"v2, files are read again": {map[string]string{"proc/self/cgroup": "0::/a\n", "cg/a/memory.max": "2000000000", "cg/a/memory.current": "2000000000",
			"cg/a/memory.stat": stat + "active_file 400000000\n"}, 0.55},
		"v2, files are mapped": {map[string]string{"proc/self/cgroup": "0::/a\n", "cg/a/memory.max": "2000000000", "cg/a/memory.current": "2000000000",
			"cg/a/memory.stat": stat + "active_file 700000000\n"}, 0.512},
		"v2, others use most": {map[string]string{"proc/self/cgroup": "0::/a\n", "cg/a/memory.max": "4000000000", "cg/a/memory.current": "4000000000", "cg/a/memory.stat": stat}, 0.2568},
		"v1": {map[string]string{"proc/self/cgroup": "3:memory:/a\n", "cg/memory/a/memory.limit_in_bytes": "2000000000", "cg/memory/a/memory.usage_in_bytes": "1500000000",
			"cg/memory/a/memory.stat": "inactive_file 1\nactive_file 1\ntotal_inactive_file 60000000\ntotal_active_file 40000000\n"}, 0.7},
		"no limit": {map[string]string{"proc/self/cgroup": "0::/\n", "proc/meminfo": "MemTotal: 2000000 kB\n"}, 0.5},
	} {
		k.files["proc/self/statm"] = statm
		dir := writeFiles(t, k.files)
		s := newSenses(filepath.Join(dir, "proc"), filepath.Join(dir, "cg"))
		if got := s.memoryShare(); got < k.want-0.002 || got > k.want+0.002 {
			t.Errorf("%s: %.4f, want %.4f", name, got, k.want)
		}
	}
}

func TestWaitsArePerWindow(t *testing.T) {
	s := &senses{}
	h := &runtimemetrics.Float64Histogram{Buckets: []float64{0, 0.001, 0.01, 0.1, 1}, Counts: []uint64{1000, 0, 0, 0}}
	if p, n := s.waits(h); p != 0 || n != 1000 {
		t.Errorf("first window: %v of %d", p, n)
	}
	h.Counts = []uint64{1980, 10, 10, 0}
	if p, n := s.waits(h); p != time.Millisecond || n != 1000 {
		t.Errorf("2 of 100 above: %v of %d, want the bucket of 1 ms", p, n)
	}
	h.Counts = []uint64{1980, 10, 10, 20}
	if p, n := s.waits(h); p != 100*time.Millisecond || n != 20 {
		t.Errorf("all above: %v of %d", p, n)
	}
	if p, n := s.waits(h); p != 0 || n != 0 {
		t.Errorf("nothing came: %v of %d", p, n)
	}
}

// TestSensesOfThisProcess: every number of a real process is there and sane.
func TestSensesOfThisProcess(t *testing.T) {
	s := newSenses("/proc", "/sys/fs/cgroup")
	at := time.Now()
	if first := s.sample(at); first.CPU != 0 || first.Waits != 0 || first.Memory <= 0 || first.Memory >= 1 {
		t.Errorf("first sample %+v", first)
	}
	for range 4000 {
		done := make(chan int)
		go func() { done <- 1 }()
		<-done
	}
	runtime.GC()
	got := s.sample(at.Add(guard.Window))
	if got.Took != guard.Window || got.Waits < 100 || got.Files < 0 || got.Files > 1 || got.CPU <= 0 {
		t.Errorf("sample %+v", got)
	}
	if first, second := s.crowd(), s.crowd(); first != 0 && (first != unknownCrowd || second < 0) {
		t.Errorf("crowd %v, then %v", first, second)
	}
}

func TestListenOverflows(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"good": "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 42 43\nIpExt: A\nIpExt: 7\n",
		"cut":  "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 1\n",
	})
	if n, ok := tcpExt(filepath.Join(dir, "good"), "ListenOverflows"); !ok || n != 42 {
		t.Errorf("%d, %v, want 42", n, ok)
	}
	for _, name := range []string{"cut", "none"} {
		if n, ok := tcpExt(filepath.Join(dir, name), "ListenOverflows"); ok {
			t.Errorf("%s: %d", name, n)
		}
	}
}

func TestMachineWarnings(t *testing.T) {
	good := map[string]string{"sys/net/core/somaxconn": "4096\n", "sys/net/ipv4/tcp_syncookies": "1\n", "sys/net/ipv4/tcp_max_syn_backlog": "512\n"}
	if w := machineWarnings(writeFiles(t, good), &site.Site{}); len(w) != 0 {
		t.Errorf("all is well, and yet: %v", w)
	}
	bad := map[string]string{"sys/net/core/somaxconn": "128\n", "sys/net/ipv4/tcp_syncookies": "0\n", "sys/net/ipv4/tcp_max_syn_backlog": "512\n"}
	w := machineWarnings(writeFiles(t, bad), &site.Site{})
	for i, remedy := range []string{"sysctl -w net.core.somaxconn=4096", "sysctl -w net.ipv4.tcp_syncookies=1", "sysctl -w net.ipv4.tcp_max_syn_backlog=4096"} {
		if len(w) != 3 || !strings.Contains(w[i], remedy) {
			t.Fatalf("warnings %q, want one with %q", w, remedy)
		}
	}
	if w := machineWarnings(t.TempDir(), &site.Site{}); len(w) != 0 {
		t.Errorf("nothing can be read, and yet: %v", w)
	}
	s := &site.Site{Listeners: map[string]*site.Listener{
		"web": {Name: "web", Protocol: site.ProtocolHTTP, Limits: site.Limits{Connections: 20000}},
		"db":  {Name: "db", Protocol: site.ProtocolTCP, Limits: site.Limits{Connections: 100}},
	}}
	if w := fileWarnings(20000, s); len(w) != 0 {
		t.Errorf("20,000 descriptors: %v", w)
	}
	w = fileWarnings(1024, s)
	if len(w) != 1 || !strings.Contains(w[0], "listener web") || !strings.Contains(w[0], "LimitNOFILE=32768") {
		t.Errorf("1024 descriptors: %v", w)
	}
}

// BenchmarkSenses is what four looks a second cost each.
func BenchmarkSenses(b *testing.B) {
	s, at := newSenses("/proc", "/sys/fs/cgroup"), time.Now()
	for b.Loop() {
		at = at.Add(guard.Window)
		s.sample(at)
	}
}

func BenchmarkGuardRefusal(b *testing.B) {
	st := newStages(new(fakePool), &site.Route{Name: "all", Pool: "shop"})
	st.entry.apply(guard.Orders{Why: guard.Memory, Refuse: [3]float64{1, 1, 1}}, &site.Guard{Mode: site.ModeOn})
	h, x := st.serveHTTP(ok), request(b, "GET /a/b?c=d HTTP/1.1\nHost: shop.example")
	r := x.Request
	for name, blind := range map[string]bool{"entry": true, "by class": false} {
		st.entry.blind = blind
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h(x)
				x.Reset()
				x.Request = r
			}
		})
	}
}

// Callers with the client library wait as long as the gateway asks for when it begins to refuse, or they would never come back by themselves.
func TestCallersWaitForTheGuard(t *testing.T) {
	shed := time.Duration(math.Ceil(1.25)) * time.Second // the longest of admit/shed at first, in whole seconds
	if longest := max(guardWait+guardJitter, shed); longest > retry.CallerMaxWait {
		t.Errorf("the gateway asks for up to %v, callers wait %v", longest, retry.CallerMaxWait)
	}
}

// crowdedFront is a proxy with few places left for connections.
type crowdedFront struct{}

func (crowdedFront) Soften(float64, time.Duration) int { return 0 }
func (crowdedFront) AcceptQueue() float64              { return 0.25 }
func (crowdedFront) Room() (used, limit int64)         { return 96, 100 }

func TestGuardSeesRoomOfConnections(t *testing.T) {
	g := newGuard(100)
	g.senses, g.softener = newSenses(t.TempDir(), t.TempDir()), crowdedFront{}
	if s := g.sample(time.Now()); s.Room != 0.96 || s.Accept != 0.25 {
		t.Errorf("sample is %+v", s)
	}
}
