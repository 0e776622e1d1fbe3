package pool

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
	"github.com/miekg/dns"
)

// nameServer answers from a zone on a loopback port, over UDP and TCP.
type nameServer struct {
	address string

	mu       sync.Mutex
	zone     []string // records
	rcode    int
	truncate bool
	extra    []string
	asked    []string // type name/network
}

func serveNames(t *testing.T) *nameServer {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	for i := 0; udp == nil; i++ { // the same number may be taken in the other protocol
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err != nil {
			tcp.Close()
			if i == 20 {
				t.Fatal(err)
			}
			udp = nil
		}
	}
	s := &nameServer{address: tcp.Addr().String()}
	for _, server := range []*dns.Server{{Listener: tcp, Handler: s.over("tcp")}, {PacketConn: udp, Handler: s.over("udp")}} {
		up, done := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(up) }
		go func() {
			defer close(done)
			server.ActivateAndServe()
		}()
		<-up
		t.Cleanup(func() {
			server.Shutdown()
			<-done
		})
	}
	return s
}

// with changes what the server says.
func (s *nameServer) with(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *nameServer) over(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m := new(dns.Msg).SetReply(q)
		ask := q.Question[0]
		s.asked = append(s.asked, dns.TypeToString[ask.Qtype]+" "+ask.Name+"/"+network)
		m.Rcode = s.rcode
		if s.truncate && network == "udp" {
			m.Truncated = true
			w.WriteMsg(m)
			return
		}
		names := map[string]bool{strings.ToLower(ask.Name): true}
		for _, line := range s.zone {
			rr, err := dns.NewRR(line)
			if err != nil {
				panic(err)
			}
			if !names[rr.Header().Name] {
				continue
			}
			if alias, ok := rr.(*dns.CNAME); ok {
				names[alias.Target] = true
				m.Answer = append(m.Answer, rr)
			} else if rr.Header().Rrtype == ask.Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		for _, line := range s.extra {
			rr, _ := dns.NewRR(line)
			m.Extra = append(m.Extra, rr)
		}
		if len(m.Answer) == 0 {
			soa, _ := dns.NewRR("test. 60 IN SOA ns.test. root.test. 1 2 3 4 2")
			m.Ns = append(m.Ns, soa)
		}
		w.WriteMsg(m)
	}
}

func TestDNS(t *testing.T) {
	s := serveNames(t)
	for _, c := range []struct {
		name  string
		cfg   site.DiscoverDNS
		zone  []string
		extra []string
		want  string
		again time.Duration
	}{
		{"a", site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80},
			[]string{"shop.test. 30 IN A 10.0.0.2", "shop.test. 20 IN A 10.0.0.1", "shop.test. 30 IN AAAA ::1"}, nil,
			"[{10.0.0.1:80 1  1} {10.0.0.2:80 1  1}]", 20 * time.Second},
		{"aaaa", site.DiscoverDNS{Name: "shop.test", Type: "aaaa", Port: 80}, []string{"shop.test. 30 IN AAAA 2001:db8::1"}, nil,
			"[{[2001:db8::1]:80 1  1}]", 30 * time.Second},
		{"alias", site.DiscoverDNS{Name: "www.test", Type: "a", Port: 80},
			[]string{"www.test. 7 IN CNAME shop.test.", "shop.test. 30 IN A 10.0.0.2"}, nil, "[{10.0.0.2:80 1  1}]", 7 * time.Second},
		{"not sooner", site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80, MinTTL: 5 * time.Second},
			[]string{"shop.test. 0 IN A 10.0.0.1"}, nil, "[{10.0.0.1:80 1  1}]", 5 * time.Second},
		{"not later", site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80, MaxTTL: time.Minute},
			[]string{"shop.test. 86400 IN A 10.0.0.1"}, nil, "[{10.0.0.1:80 1  1}]", time.Minute},
		{"no such name", site.DiscoverDNS{Name: "none.test", Type: "a", Port: 80}, nil, nil, "[]", 2 * time.Second},
		{"srv", site.DiscoverDNS{Name: "_http._tcp.test", Type: "srv"},
			[]string{"_http._tcp.test. 60 IN SRV 20 0 8080 b.test.", "_http._tcp.test. 60 IN SRV 10 5 80 a.test.", "_http._tcp.test. 60 IN SRV 10 3 81 c.test.",
				"a.test. 9 IN A 10.0.0.1", "b.test. 50 IN A 10.0.0.2", "b.test. 50 IN AAAA ::2"},
			[]string{"c.test. 40 IN A 10.0.0.3"},
			"[{10.0.0.1:80 5  1} {10.0.0.2:8080 1  2} {10.0.0.3:81 3  1} {[::2]:8080 1  2}]", 9 * time.Second},
		{"srv without service", site.DiscoverDNS{Name: "_http._tcp.test", Type: "srv"},
			[]string{"_http._tcp.test. 60 IN SRV 0 0 0 ."}, nil, "[]", time.Minute},
	} {
		s.with(func() { s.zone, s.extra = c.zone, c.extra })
		c.cfg.Resolver = s.address
		got, err := newDNSSource(&c.cfg).find(context.Background())
		if err != nil || fmt.Sprint(got.set) != c.want || got.again != c.again {
			t.Errorf("%s: %v, again in %v (%v), want %s in %v", c.name, got.set, got.again, err, c.want, c.again)
		}
	}
}

func TestDNSFallsBackToTCP(t *testing.T) {
	s := serveNames(t)
	want := 300
	s.with(func() {
		s.truncate = true
		for i := range want {
			s.zone = append(s.zone, fmt.Sprintf("shop.test. 30 IN A 10.0.%d.%d", i/250, i%250+1))
		}
	})
	got, err := newDNSSource(&site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80, Resolver: s.address}).find(context.Background())
	var asked []string
	s.with(func() { asked = s.asked })
	if err != nil || len(got.set) != want || len(asked) != 2 || asked[1] != "A shop.test./tcp" {
		t.Errorf("%d endpoints by %v (%v), want %d by tcp", len(got.set), asked, err, want)
	}
}

func TestDNSFailures(t *testing.T) {
	s := serveNames(t)
	s.with(func() { s.rcode = dns.RcodeServerFailure })
	src := newDNSSource(&site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80, Resolver: s.address, MinTTL: time.Second})
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		got, err := src.find(context.Background())
		if err == nil || !strings.Contains(err.Error(), "cannot look up a shop.test: resolver "+s.address+" answered SERVFAIL") {
			t.Fatal(err)
		}
		if got.again != want*time.Second {
			t.Errorf("again in %v, want %ds", got.again, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := src.find(ctx); err == nil {
		t.Error("no error though the context has ended")
	}
}

// The system's resolver: search list, and the next server when one does not answer.
func TestDNSBySystemResolver(t *testing.T) {
	s := serveNames(t)
	s.with(func() { s.zone = []string{"shop.corp.test. 30 IN A 10.0.0.1"} })
	_, port, _ := net.SplitHostPort(s.address)
	src := newDNSSource(&site.DiscoverDNS{Name: "shop", Type: "a", Port: 80}).(*dnsSource)
	src.conf = filepath.Join(t.TempDir(), "resolv.conf")
	if _, err := src.find(context.Background()); err == nil || !strings.Contains(err.Error(), "cannot read the system's resolvers") {
		t.Errorf("no resolv.conf: %v", err)
	}
	if err := os.WriteFile(src.conf, []byte("search other.test corp.test\nnameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	conf, err := dns.ClientConfigFromFile(src.conf)
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{servers: []string{"127.0.0.1:1", net.JoinHostPort(conf.Servers[0], port)}, names: conf.NameList}
	r.udp.Timeout, r.tcp.Timeout = askTimeout, askTimeout
	got, err := r.ask(context.Background(), "shop", dns.TypeA)
	if err != nil || len(got.answer) != 1 {
		t.Errorf("%v (%v), want the address of shop.corp.test", got.answer, err)
	}
}

// A pool on real sockets: found, an empty answer held, found again.
func TestPoolFollowsDNS(t *testing.T) {
	s := serveNames(t)
	s.with(func() { s.zone = []string{"shop.test. 0 IN A 10.0.0.1", "shop.test. 0 IN A 10.0.0.2"} })
	cfg := *setup(t, site.MethodLeastRequests, 0).cfg
	cfg.Discover = &site.Discover{DNS: &site.DiscoverDNS{Name: "shop.test", Type: "a", Port: 80, Resolver: s.address, MinTTL: 10 * time.Millisecond,
		MaxTTL: 20 * time.Millisecond}}
	events := make(chan string, 100)
	p, err := New(&cfg, Deps{Seed: 1, Event: func(kind, text string) { events <- kind + " " + text }})
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, p)
	defer stop()
	wait := func(want string) {
		t.Helper()
		late := time.After(5 * time.Second)
		for {
			select {
			case e := <-events:
				if strings.Contains(e, want) {
					return
				}
			case <-late:
				t.Fatalf("no event %q within 5s", want)
			}
		}
	}
	swap := func(zone ...string) { s.with(func() { s.zone = zone }) }
	wait("endpoint 10.0.0.2:80 joined")
	swap()
	wait("membership_held pool shop: the last good set of 2 endpoints is kept: no endpoints were found")
	if n := len(p.Status().Endpoints); n != 2 {
		t.Errorf("%d endpoints while the answer is empty, want 2", n)
	}
	swap("shop.test. 0 IN A 10.0.0.1", "shop.test. 0 IN A 10.0.0.3")
	wait("endpoint 10.0.0.3:80 joined")
	wait("endpoint 10.0.0.2:80 left the set")
	// Removed by configuration, they go at once.
	none := cfg
	none.Discover = nil
	if err := p.Update(&none); err != nil {
		t.Fatal(err)
	}
	if _, no := p.Pick(from(1)); no == nil || no.Reason != "no_endpoint" {
		t.Errorf("without discovery a pick is refused with %v, want no_endpoint", no)
	}
}
