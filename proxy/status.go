package proxy

import (
	"cmp"
	"slices"
	"time"
)

// Status is what a Proxy does, as plain data.
type Status struct {
	Listeners   []ListenerStatus `json:"listeners"`
	Descriptors int64            `json:"descriptors"` // held by connections now
	Room        int64            `json:"room"`        // descriptors that connections may hold; beyond it clients are refused as node_full
	Panics      int64            `json:"panics"`      // connections that ended by a fault of evenkeel
	Draining    bool             `json:"draining"`
}

// ListenerStatus is one listener. Counts are since its start; they survive reloads.
type ListenerStatus struct {
	Name       string           `json:"name"`
	Address    string           `json:"address"` // empty once it is removed and only its connections are left
	Protocol   string           `json:"protocol"`
	Open       int64            `json:"open"` // connections, or udp sessions, now
	Limit      int              `json:"limit"`
	Accepted   int64            `json:"accepted"` // refused ones too
	Refused    map[string]int64 `json:"refused"`  // by reason, every reason present
	Handshakes Handshakes       `json:"handshakes"`
	BytesIn    int64            `json:"bytes_in"` // tcp and udp, from clients
	BytesOut   int64            `json:"bytes_out"`
	Dropped    int64            `json:"dropped"` // udp datagrams that were not passed on
	Draining   bool             `json:"draining"`

	Certificates []CertificateStatus `json:"certificates,omitempty"`
	// CertificateError says why the newest certificate files are not in use; empty: they are.
	CertificateError string `json:"certificate_error,omitempty"`
}

// Handshakes counts TLS handshakes.
type Handshakes struct {
	OK      int64 `json:"ok"`
	Failed  int64 `json:"failed"`
	Resumed int64 `json:"resumed"` // of OK
}

// CertificateStatus is one certificate that is served.
type CertificateStatus struct {
	File    string    `json:"file"`
	Names   []string  `json:"names"`
	Expires time.Time `json:"expires"`
}

// Status is what the Proxy does now. Listeners are sorted by name.
func (p *Proxy) Status() Status {
	st := Status{Descriptors: p.room.used.Load(), Room: p.room.limit, Panics: p.panics.Load(), Draining: p.draining.Load()}
	for _, l := range p.all() {
		st.Listeners = append(st.Listeners, l.status(p))
	}
	slices.SortFunc(st.Listeners, func(a, b ListenerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Address, a.Address))
	})
	return st
}

func (l *listener) status(p *Proxy) ListenerStatus {
	cfg := l.cfg.Load()
	st := ListenerStatus{
		Name: l.name, Protocol: cfg.Protocol, Open: l.open.Load(), Limit: cfg.Limits.Connections, Accepted: l.accepted.Load(),
		Refused: map[string]int64{}, BytesIn: l.in.sum(), BytesOut: l.out.sum(), Dropped: l.dropped.Load(), Draining: l.draining.Load(),
		Handshakes: Handshakes{OK: l.handshakes.Load(), Failed: l.handshakesFailed.Load(), Resumed: l.handshakesResumed.Load()},
	}
	p.mu.Lock()
	if s := p.socketOf(l); s != nil {
		st.Address = s.addr().String()
	}
	p.mu.Unlock()
	for r := range l.refused {
		st.Refused[reason(r).String()] = l.refused[r].Load()
	}
	l.closed.each(func(why string, n uint64) { st.Refused["http2_"+why] = int64(n) })
	if t := l.tls.Load(); t != nil {
		st.Certificates = t.status()
		if w := t.wrong.Load(); w != nil {
			st.CertificateError = *w
		}
	}
	return st
}

// status lists the certificates in use, in the order of the site file.
func (t *tlsState) status() (all []CertificateStatus) {
	set := t.certs.Load()
	for i, c := range set.all {
		all = append(all, CertificateStatus{File: t.cfg.Certificates[i].Cert, Names: slices.Clone(c.Leaf.DNSNames), Expires: c.Leaf.NotAfter})
	}
	return all
}
