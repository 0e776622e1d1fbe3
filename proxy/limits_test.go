package proxy

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

func TestPaceBurstIsOneSecond(t *testing.T) {
	tests := []struct {
		rate  float64
		at    []float64 // seconds
		taken int
	}{
		{100, make([]float64, 150), 100},        // all at once: the burst
		{100, []float64{0, 1, 2, 3}, 4},         // slow
		{0.5, []float64{0, 1, 2, 3, 4, 4.5}, 3}, // below one per second one goes through
		{0, make([]float64, 1000), 1000},        // no limit
		{1, []float64{0, 0.5, 0.99, 1.01, 1.5}, 2},
	}
	for _, test := range tests {
		var p pace
		taken := 0
		for _, s := range test.at {
			if p.take(int64(1e9+s*1e9), test.rate) {
				taken++
			}
		}
		if taken != test.taken {
			t.Errorf("%v/s: %d of %d taken, want %d", test.rate, taken, len(test.at), test.taken)
		}
	}
}

func TestPaceHoldsItsRate(t *testing.T) {
	var p pace
	taken := 0
	for ms := range int64(10_000) { // ten seconds, 1,000/s offered
		if p.take(1+ms*1e6, 50) {
			taken++
		}
	}
	if taken < 545 || taken > 550 { // 50 at once and 50/s after
		t.Errorf("%d taken of 50/s for 10 s", taken)
	}
}

func TestIPTable(t *testing.T) {
	var table ipTable
	a, sameNet, other := keyOf(netip.MustParseAddr("2001:db8::1")), keyOf(netip.MustParseAddr("2001:db8::ffff:1")), keyOf(netip.MustParseAddr("2001:db8:0:1::1"))
	if a != sameNet || a == other {
		t.Fatal("IPv6 is not counted by /64")
	}
	if keyOf(netip.MustParseAddr("::ffff:10.0.0.1")) != keyOf(netip.MustParseAddr("10.0.0.1")) {
		t.Fatal("a mapped address is not its IPv4 address")
	}
	for _, k := range []ipKey{a, sameNet, other} {
		if !table.take(k, 2) {
			t.Fatal("one of two was not taken")
		}
	}
	if table.take(a, 2) {
		t.Fatal("the limit is not two")
	}
	table.give(a)
	if !table.take(a, 2) {
		t.Fatal("what was given back cannot be taken")
	}
	table.give(a)
	table.give(a)
	table.give(other)
	for i := range table.shards {
		if n := len(table.shards[i].n); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	}
}

func TestLimitsAllocateNothing(t *testing.T) {
	var table ipTable
	var p pace
	k := keyOf(netip.MustParseAddr("192.0.2.1"))
	table.take(k, 10)
	if n := testing.AllocsPerRun(100, func() {
		table.take(k, 10)
		table.give(k)
		p.take(1, 10)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRoomFor(t *testing.T) {
	tests := []struct{ files, memory, want int64 }{
		{1024, 0, 1024 - 102},
		{100, 0, 36},
		{64, 0, 16},
		{20_000, 0, 18_000},
		{1 << 20, 512 << 20, 16384},
	}
	for _, test := range tests {
		if got := roomFor(test.files, test.memory); got != test.want {
			t.Errorf("roomFor(%d, %d) = %d, want %d", test.files, test.memory, got, test.want)
		}
	}
}

// refusedBy opens connections until one is reset, and returns how many were served.
func refusedBy(t *testing.T, at string, most int) (served int) {
	t.Helper()
	for range most {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return served
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "x"); err != nil {
			return served
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return served
		}
		served++
	}
	return served
}

func TestListenerRefuses(t *testing.T) {
	tests := []struct {
		why    reason
		limit  func(*site.Limits, *Proxy)
		served int
	}{
		{refusedConnections, func(l *site.Limits, _ *Proxy) { l.Connections = 3 }, 3},
		{refusedPerIP, func(l *site.Limits, _ *Proxy) { l.ConnectionsPerIP = 2 }, 2},
		{refusedPerIP, func(l *site.Limits, _ *Proxy) { l.Connections, l.ConnectionsPerIP = 8, 0 }, 4}, // half
		{refusedAcceptRate, func(l *site.Limits, _ *Proxy) { l.AcceptRate = 0.1 }, 1},
		{refusedNodeFull, func(_ *site.Limits, p *Proxy) { p.room.limit = 10 }, 5}, // two descriptors each
	}
	for _, test := range tests {
		p := started(t, Deps{})
		cfg := testListener("l4", "tcp")
		test.limit(&cfg.Limits, p)
		at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
		if served := refusedBy(t, at, 20); served != test.served {
			t.Errorf("%v: %d were served, want %d", test.why, served, test.served)
		}
		st := statusOf(t, p, "l4")
		if st.Refused[test.why.String()] != 1 || st.Open != int64(test.served) {
			t.Errorf("%v: status %+v", test.why, st)
		}
	}
}

// TestFullTable runs itself in a process with few descriptors: waiting clients are reset and counted, the
// accept loop does not spin, and service goes on once descriptors are free.
func TestFullTable(t *testing.T) {
	if os.Getenv("EVENKEEL_TEST_FULL_TABLE") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullTable$", "-test.v")
		cmd.Env = append(os.Environ(), "EVENKEEL_TEST_FULL_TABLE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	p := started(t, Deps{})
	p.room.limit = 1 << 20 // the table must be what is full
	cfg := testListener("l4", "tcp")
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	if got := refusedBy(t, at, 1); got != 1 {
		t.Fatal("not served before")
	}
	var held []*os.File
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		held = append(held, f)
	}
	// One descriptor for a client that then finds the table full.
	for range 3 {
		held[0].Close()
		held = held[1:]
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.SetDeadline(time.Now().Add(patience))
			if _, err = c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("a client of a full node saw %v", err)
			}
			c.Close()
		}
		f, err := os.Open(os.DevNull)
		if err == nil {
			held = append(held, f)
		}
	}
	eventually(t, "it is counted", func() bool { return statusOf(t, p, "l4").Refused["fd_table_full"] >= 3 })
	for _, f := range held {
		f.Close()
	}
	if got := refusedBy(t, at, 1); got != 1 {
		t.Error("not served after")
	}
}
