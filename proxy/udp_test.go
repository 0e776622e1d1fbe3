package proxy

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// udpService answers every datagram with prefix and the datagram. stop closes it.
func udpService(t testing.TB, prefix string) (at string, stop func()) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(append([]byte(prefix), b[:n]...), from)
		}
	})
	stop = func() {
		c.Close()
		reading.Wait()
	}
	t.Cleanup(stop)
	return c.LocalAddr().String(), stop
}

func udpClient(t testing.TB, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// ask sends a datagram and returns the answer.
func ask(t testing.TB, c net.Conn, what string) string {
	t.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// switched sends exchanges to the first of its endpoints that is not gone or refused.
type switched struct {
	mu   sync.Mutex
	list []*exchange.Endpoint
	bad  map[*exchange.Endpoint]bool
	kind []exchange.ResultKind
}

func newSwitched(t testing.TB, p *Proxy, addresses ...string) *switched {
	up, err := p.Upstream(&site.Pool{Name: "pool", HTTP: "auto", ProxyProtocol: "off", Timeouts: site.Timeouts{Connect: patience, Idle: patience}})
	if err != nil {
		t.Fatal(err)
	}
	s := &switched{bad: map[*exchange.Endpoint]bool{}}
	for _, a := range addresses {
		e := &exchange.Endpoint{Address: a}
		up.Attach(e)
		s.list = append(s.list, e)
	}
	return s
}

func (s *switched) handle(x *exchange.Exchange) *exchange.Refusal {
	s.mu.Lock()
	for _, e := range s.list {
		if !e.Gone.Load() && !s.bad[e] {
			x.Endpoint = e
			break
		}
	}
	e := x.Endpoint
	s.mu.Unlock()
	if e == nil {
		return refusedNoRoute
	}
	e.InFlight.Add(1)
	r := openUDP(x)
	e.InFlight.Add(-1)
	s.mu.Lock()
	s.bad[e] = s.bad[e] || x.Result.Kind == exchange.ConnectFailed
	s.kind = append(s.kind, x.Result.Kind)
	s.mu.Unlock()
	return r
}

func TestUDPSessions(t *testing.T) {
	service, _ := udpService(t, ">")
	p := started(t, Deps{})
	h := newSwitched(t, p, service)
	at := serving(t, p, testListener("u", "udp"), h.handle)
	a, b := udpClient(t, at), udpClient(t, at)
	for range 3 {
		if got := ask(t, a, "one"); got != ">one" {
			t.Fatalf("answer %q", got)
		}
		if got := ask(t, b, "two"); got != ">two" {
			t.Fatalf("answer %q", got)
		}
	}
	if got := ask(t, a, ""); got != ">" {
		t.Errorf("the answer to an empty datagram is %q", got)
	}
	big := strings.Repeat("x", 60_000)
	if got := ask(t, a, big); got != ">"+big {
		t.Errorf("a big datagram came back with %d bytes", len(got))
	}
	st := statusOf(t, p, "u")
	if st.Open != 2 || st.Accepted != 2 || st.BytesIn != 60_018 || h.list[0].InFlight.Load() != 2 {
		t.Errorf("status %+v, %d in flight", st, h.list[0].InFlight.Load())
	}
}

func TestUDPSessionsEndWhenIdle(t *testing.T) {
	service, _ := udpService(t, ">")
	p := started(t, Deps{})
	h := newSwitched(t, p, service)
	cfg := testListener("u", "udp")
	cfg.Limits.IdleTimeout = 20 * time.Millisecond
	at := serving(t, p, cfg, h.handle)
	c := udpClient(t, at)
	ask(t, c, "x")
	eventually(t, "the session ends", func() bool { return statusOf(t, p, "u").Open == 0 && p.Status().Descriptors == 0 })
	if got := ask(t, c, "again"); got != ">again" {
		t.Errorf("a new session answers %q", got)
	}
	if h.kind[0] != exchange.Answered {
		t.Errorf("the session's result is %v", h.kind[0])
	}
}

func TestUDPIsRehomed(t *testing.T) {
	first, stopFirst := udpService(t, "1")
	second, _ := udpService(t, "2")
	third, _ := udpService(t, "3")
	p := started(t, Deps{})
	h := newSwitched(t, p, first, second, third)
	at := serving(t, p, testListener("u", "udp"), h.handle)
	c := udpClient(t, at)
	if got := ask(t, c, "x"); got != "1x" {
		t.Fatalf("answer %q", got)
	}
	stopFirst() // ICMP says that nobody listens; the datagram is sent again, to another
	if got := ask(t, c, "y"); got != "2y" {
		t.Errorf("after the endpoint died: %q", got)
	}
	h.list[1].Gone.Store(true) // a probe says so
	if got := ask(t, c, "z"); got != "3z" {
		t.Errorf("after the endpoint left: %q", got)
	}
	if st := statusOf(t, p, "u"); st.Open != 1 || st.Accepted != 1 {
		t.Errorf("it is not the same session: %+v", st)
	}
}

func TestUDPFirstDatagramFindsALiveEndpoint(t *testing.T) {
	dead, stop := udpService(t, "dead")
	stop()
	live, _ := udpService(t, ">")
	p := started(t, Deps{})
	at := serving(t, p, testListener("u", "udp"), newSwitched(t, p, dead, live).handle)
	if got := ask(t, udpClient(t, at), "x"); got != ">x" {
		t.Errorf("answer %q", got)
	}
}

func TestUDPLimits(t *testing.T) {
	service, _ := udpService(t, ">")
	for _, test := range []struct {
		why    reason
		change func(*site.Limits)
	}{
		{refusedConnections, func(l *site.Limits) { l.Connections = 1 }},
		{refusedPerIP, func(l *site.Limits) { l.ConnectionsPerIP = 1 }},
		{refusedAcceptRate, func(l *site.Limits) { l.AcceptRate = 0.01 }},
	} {
		p := started(t, Deps{})
		cfg := testListener("u", "udp")
		test.change(&cfg.Limits)
		at := serving(t, p, cfg, newSwitched(t, p, service).handle)
		a := udpClient(t, at)
		ask(t, a, "x")
		udpClient(t, at).Write([]byte("x"))
		eventually(t, test.why.String(), func() bool { return statusOf(t, p, "u").Refused[test.why.String()] == 1 })
		if got := ask(t, a, "y"); got != ">y" {
			t.Errorf("%v: the first session answers %q", test.why, got)
		}
	}
}

// On a wildcard address answers come from the address that was asked.
func TestUDPAnswersFromWhereItWasAsked(t *testing.T) {
	service, _ := udpService(t, ">")
	for _, listen := range []string{":0", "0.0.0.0:0"} {
		p := started(t, Deps{})
		locals := make(chan netip.AddrPort, 1)
		h := newSwitched(t, p, service)
		cfg := testListener("u", "udp")
		cfg.Listen = listen
		at := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
			locals <- x.Local
			return h.handle(x)
		})
		_, port, _ := net.SplitHostPort(at)
		c := udpClient(t, "127.0.0.2:"+port) // connected: takes answers from there only
		if got := ask(t, c, "x"); got != ">x" {
			t.Errorf("%s: answer %q", listen, got)
		}
		if got := <-locals; got.String() != "127.0.0.2:"+port {
			t.Errorf("%s: the stages saw %v", listen, got)
		}
	}
}

func TestUDPDrain(t *testing.T) {
	service, _ := udpService(t, ">")
	p := started(t, Deps{})
	at := serving(t, p, testListener("u", "udp"), newSwitched(t, p, service).handle)
	c := udpClient(t, at)
	ask(t, c, "x")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Drain(ctx) }()
	eventually(t, "new sessions are refused", func() bool {
		udpClient(t, at).Write([]byte("x"))
		return statusOf(t, p, "u").Refused["draining"] > 0
	})
	if got := ask(t, c, "still"); got != ">still" {
		t.Errorf("the session answers %q", got)
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "off: u ") {
		t.Errorf("drain says %v", err)
	}
}

func TestUDPSuccessor(t *testing.T) {
	service, _ := udpService(t, ">")
	old := started(t, Deps{})
	cfg := testListener("u", "udp")
	at := serving(t, old, cfg, newSwitched(t, old, service).handle)
	ask(t, udpClient(t, at), "x")
	files, err := old.Files()
	if err != nil {
		t.Fatal(err)
	}
	next := started(t, Deps{Inherited: map[string][]*os.File{"u": files["u"]}})
	cfg.Listen = at
	serving(t, next, cfg, newSwitched(t, next, service).handle)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	old.Drain(ctx)
	if got := ask(t, udpClient(t, at), "y"); got != ">y" {
		t.Errorf("answer %q", got)
	}
	if st := statusOf(t, next, "u"); st.Accepted != 1 {
		t.Errorf("the successor: %+v", st)
	}
}

func TestReplyFromShortMessages(t *testing.T) {
	for n := range 40 {
		replyFrom(bytes.Repeat([]byte{0xff}, n)) // must not panic
	}
}
