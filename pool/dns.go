package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/site"
	"github.com/miekg/dns"
)

const (
	resolvConf = "/etc/resolv.conf"
	// lookupTimeout bounds one refresh with all its questions, askTimeout one question to one server.
	lookupTimeout = 10 * time.Second
	askTimeout    = 2 * time.Second
	// askRounds is how often all servers are asked the same, as in resolv.conf's attempts.
	askRounds = 2
	// targetsMax is how many SRV targets without an address in the answer are looked up.
	targetsMax = 1000
	// emptyTTL is when to ask again for a name that has nothing and says nothing of how long that holds.
	emptyTTL = 5 * time.Second
	// failedMax bounds the doubling wait after failed lookups.
	failedMax = 30 * time.Second
	// udpSize is what answers may have without falling back to TCP (DNS flag day 2020).
	udpSize = 1232
)

// dnsSource finds endpoints by DNS.
type dnsSource struct {
	cfg   *site.DiscoverDNS
	conf  string // resolv.conf
	fails int
}

func newDNSSource(cfg *site.DiscoverDNS) source { return &dnsSource{cfg: cfg, conf: resolvConf} }

// records is what one question yielded. ttl is the least of all records that count.
type records struct {
	answer, extra []dns.RR
	ttl           time.Duration
}

// find implements source.
func (s *dnsSource) find(ctx context.Context) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	set, ttl, err := s.lookup(ctx)
	if err != nil {
		wait := min(s.least()<<min(s.fails, 10), failedMax)
		s.fails++
		return found{again: max(wait, s.least())}, fmt.Errorf("cannot look up %s %s: %w", s.cfg.Type, s.cfg.Name, err)
	}
	s.fails = 0
	ttl = max(ttl, s.least())
	if s.cfg.MaxTTL > 0 {
		ttl = min(ttl, max(s.cfg.MaxTTL, s.least()))
	}
	return found{set: set, again: ttl}, nil
}

// least is the shortest time between two refreshes. A site file cannot set it to 0; code that makes its own configuration can.
func (s *dnsSource) least() time.Duration {
	if s.cfg.MinTTL <= 0 {
		return time.Second
	}
	return s.cfg.MinTTL
}

func (s *dnsSource) lookup(ctx context.Context) ([]site.Endpoint, time.Duration, error) {
	r, err := s.resolver()
	if err != nil {
		return nil, 0, err
	}
	if s.cfg.Type == "srv" {
		return r.services(ctx, s.cfg.Name)
	}
	kind := dns.TypeA
	if s.cfg.Type == "aaaa" {
		kind = dns.TypeAAAA
	}
	got, err := r.ask(ctx, s.cfg.Name, kind)
	if err != nil {
		return nil, 0, err
	}
	var set []site.Endpoint
	for _, ip := range addresses(got.answer, "", &got.ttl) {
		set = append(set, endpoint(ip, uint16(s.cfg.Port), 1, 1))
	}
	return tidy(set), got.ttl, nil
}

func endpoint(ip netip.Addr, port uint16, weight, priority int) site.Endpoint {
	return site.Endpoint{Address: netip.AddrPortFrom(ip, port).String(), Weight: weight, Priority: priority}
}

// tidy sorts a set and drops what stands in it twice: servers rotate their answers.
func tidy(set []site.Endpoint) []site.Endpoint {
	sort.SliceStable(set, func(i, j int) bool { return set[i].Address < set[j].Address })
	return slices.CompactFunc(set, func(a, b site.Endpoint) bool { return a.Address == b.Address })
}

// addresses are those of the A and AAAA records; of name only, unless that is empty. ttl goes down to the least of theirs.
func addresses(list []dns.RR, name string, ttl *time.Duration) []netip.Addr {
	var out []netip.Addr
	for _, rr := range list {
		var raw net.IP
		switch rr := rr.(type) {
		case *dns.A:
			raw = rr.A
		case *dns.AAAA:
			raw = rr.AAAA
		default:
			continue
		}
		if name != "" && dns.CanonicalName(rr.Header().Name) != dns.CanonicalName(name) {
			continue
		}
		if ip, ok := netip.AddrFromSlice(raw); ok {
			out = append(out, ip.Unmap())
			*ttl = min(*ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
	}
	return out
}

// resolver asks the servers of resolv.conf, or the one that the site file names.
type resolver struct {
	servers []string
	names   func(name string) []string // with the search list
	udp     dns.Client
	tcp     dns.Client
}

func (s *dnsSource) resolver() (*resolver, error) {
	r := &resolver{udp: dns.Client{Timeout: askTimeout, UDPSize: udpSize}, tcp: dns.Client{Net: "tcp", Timeout: askTimeout}}
	if s.cfg.Resolver != "" {
		r.servers = []string{s.cfg.Resolver}
		r.names = func(name string) []string { return []string{dns.Fqdn(name)} }
		return r, nil
	}
	// Read at each refresh: it changes when the machine changes networks.
	conf, err := dns.ClientConfigFromFile(s.conf)
	if err != nil {
		return nil, fmt.Errorf("cannot read the system's resolvers: %w", err)
	}
	for _, host := range conf.Servers {
		r.servers = append(r.servers, net.JoinHostPort(host, conf.Port))
	}
	if len(r.servers) == 0 {
		return nil, fmt.Errorf("%s names no resolver", s.conf)
	}
	r.names = conf.NameList
	return r, nil
}

// ask looks name up, along the search list. A name that does not exist, or has no such record, yields no
// records and no error.
func (r *resolver) ask(ctx context.Context, name string, kind uint16) (records, error) {
	none := records{ttl: emptyTTL}
	for _, full := range r.names(name) {
		msg, err := r.askServers(ctx, full, kind)
		if err != nil {
			return records{}, err
		}
		got := records{answer: msg.Answer, extra: msg.Extra, ttl: time.Duration(1<<31-1) * time.Second}
		for _, rr := range msg.Answer {
			// An alias on the way bounds how long the whole answer holds.
			got.ttl = min(got.ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
		if slices.ContainsFunc(msg.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == kind }) {
			return got, nil
		}
		for _, rr := range msg.Ns {
			if soa, ok := rr.(*dns.SOA); ok { // RFC 2308 section 5
				none.ttl = min(none.ttl, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
			}
		}
	}
	return none, nil
}

// askServers asks the servers one after the other, until one knows.
func (r *resolver) askServers(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, kind)
	q.SetEdns0(udpSize, false)
	var all []error
	for range askRounds {
		for _, server := range r.servers {
			msg, err := r.askOne(ctx, q, server)
			if err == nil {
				return msg, nil
			}
			if ctx.Err() != nil {
				return nil, errors.Join(append(all, err)...)
			}
			if len(all) < len(r.servers) {
				all = append(all, err)
			}
		}
	}
	return nil, errors.Join(all...)
}

func (r *resolver) askOne(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	q.Id = dns.Id()
	msg, err := askOver(ctx, &r.udp, q, server)
	if err == nil && msg.Truncated {
		msg, err = askOver(ctx, &r.tcp, q, server)
	}
	if err != nil {
		return nil, fmt.Errorf("resolver %s: %w", server, err)
	}
	if msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("resolver %s answered %s", server, dns.RcodeToString[msg.Rcode])
	}
	return msg, nil
}

// askOver asks one question and leaves as soon as ctx ends: the client itself looks at its own timeout only.
func askOver(ctx context.Context, client *dns.Client, q *dns.Msg, server string) (*dns.Msg, error) {
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	msg, _, err := client.ExchangeWithConnContext(ctx, q, conn)
	return msg, err
}

// services looks SRV records up (RFC 2782). Their priorities, in order, become 1 to 16. A weight of 0 becomes
// 1: it is to get little, not nothing.
func (r *resolver) services(ctx context.Context, name string) ([]site.Endpoint, time.Duration, error) {
	got, err := r.ask(ctx, name, dns.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	var all []*dns.SRV
	var levels []uint16
	for _, rr := range got.answer {
		if srv, ok := rr.(*dns.SRV); ok && srv.Target != "." { // "." says that there is no such service
			all = append(all, srv)
			levels = append(levels, srv.Priority)
		}
	}
	slices.Sort(levels)
	levels = slices.Compact(levels)
	known, asked := make(map[string][]netip.Addr), 0
	var set []site.Endpoint
	for _, srv := range all {
		target := dns.CanonicalName(srv.Target)
		ips, ok := known[target]
		if !ok {
			if ips = addresses(got.extra, target, &got.ttl); len(ips) == 0 {
				if asked++; asked > targetsMax {
					return nil, 0, fmt.Errorf("more than %d targets came without an address: at most that many are looked up", targetsMax)
				}
				if ips, err = r.hosts(ctx, target, &got.ttl); err != nil {
					return nil, 0, fmt.Errorf("cannot look up target %s: %w", target, err)
				}
			}
			known[target] = ips
		}
		at, _ := slices.BinarySearch(levels, srv.Priority)
		for _, ip := range ips {
			set = append(set, endpoint(ip, srv.Port, max(int(srv.Weight), 1), min(at+1, prioritiesMax)))
		}
	}
	return tidy(set), got.ttl, nil
}

// hosts looks up both kinds of addresses of an SRV target.
func (r *resolver) hosts(ctx context.Context, target string, ttl *time.Duration) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		msg, err := r.askServers(ctx, target, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dns.TypeToString[kind], err)
		}
		out = append(out, addresses(msg.Answer, "", ttl)...)
	}
	return out, nil
}

// checkAddress says what is wrong with host:port.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q is not host:port", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("address %q has port %q: 1 to 65535 is allowed", address, port)
	}
	if host == "" {
		return fmt.Errorf("address %q has no host", address)
	}
	return nil
}
