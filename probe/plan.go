package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/even-keel/evenkeel/site"
)

// Values of a probe that says nothing, as in the site file.
const (
	everyDefault   = 5 * time.Second
	timeoutDefault = 2 * time.Second
)

// reasonMax is how many bytes of a reason are kept: 32 of them stand in every endpoint's history.
const reasonMax = 200

// finding is what one probe found, before it is known how long it took.
type finding struct {
	healthy bool
	void    bool // see Verdict.Void
	late    bool // the probe's time was over
	reason  string
}

func good(format string, args ...any) finding {
	return finding{healthy: true, reason: fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) finding {
	return finding{reason: fmt.Sprintf(format, args...)}
}

// asker is one kind of probe, ready to be used by many goroutines. It must end soon after ctx ended.
type asker interface {
	ask(ctx context.Context, t Target) finding
}

// plan is a site.Probe made ready.
type plan struct {
	cfg     *site.Probe // as given, may be nil
	every   time.Duration
	timeout time.Duration
	port    int
	kind    asker
	mistake error // why kind is nil
	users   int   // targets that use it; guarded by prober.mu
}

// Check says what is wrong with a probe: more than one kind, a regular expression or status that cannot be read, a path
// without a slash, a header that HTTP does not allow, a command without a program. A nil cfg is right.
func Check(cfg *site.Probe) error { return compile(cfg).mistake }

// Once makes a single probe of t, within cfg.Timeout. A nil cfg, and zero fields in it, mean the site file's
// defaults. A cfg that Check would refuse yields that mistake as the verdict.
func Once(ctx context.Context, t Target, cfg *site.Probe) Verdict {
	p := compile(cfg)
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.verdict(ctx, t, (*plan).ask)
}

func compile(cfg *site.Probe) *plan {
	p := &plan{cfg: cfg, every: everyDefault, timeout: timeoutDefault}
	if cfg == nil {
		p.kind = &tcpKind{}
		return p
	}
	if cfg.Every > 0 {
		p.every = cfg.Every
	}
	if cfg.Timeout > 0 {
		p.timeout = cfg.Timeout
	}
	p.port = cfg.Port
	p.kind, p.mistake = kindOf(cfg)
	return p
}

// kindOf picks the one kind that cfg names; none is tcp.
func kindOf(cfg *site.Probe) (kind asker, err error) {
	var named []string
	add := func(name string, is bool, make func() (asker, error)) {
		if !is {
			return
		}
		if named = append(named, name); len(named) == 1 {
			kind, err = make()
		}
	}
	add("http", cfg.HTTP != nil, func() (asker, error) { return newHTTP(cfg.HTTP) })
	add("tcp", cfg.TCP != nil, func() (asker, error) { return newTCP(cfg.TCP) })
	add("tls", cfg.TLS != nil, func() (asker, error) { return &tlsKind{*cfg.TLS}, nil })
	add("grpc", cfg.GRPC != nil, func() (asker, error) { return &grpcKind{cfg.GRPC.Service}, nil })
	add("exec", cfg.Exec != nil, func() (asker, error) { return newExec(cfg.Exec) })
	switch {
	case len(named) > 1:
		return nil, fmt.Errorf("probe has %s, allowed is one of http, tcp, tls, grpc, exec", strings.Join(named, " and "))
	case cfg.Port < 0 || cfg.Port > 65535:
		return nil, fmt.Errorf("probe port %d: allowed is 0 to 65535", cfg.Port)
	case len(named) == 0:
		return &tcpKind{}, nil
	case err != nil:
		return nil, fmt.Errorf("probe %s: %w", named[0], err)
	}
	return kind, nil
}

func (p *plan) command() bool {
	_, is := p.kind.(*execKind)
	return is
}

// ask makes one probe within ctx.
func (p *plan) ask(ctx context.Context, t Target) finding {
	if p.mistake != nil {
		return bad("%v", p.mistake)
	}
	if p.port != 0 {
		host, _, err := net.SplitHostPort(t.Address)
		if err != nil {
			return bad("address %q: want host:port", t.Address)
		}
		t.Address = net.JoinHostPort(host, strconv.Itoa(p.port))
	}
	return p.kind.ask(ctx, t)
}

// verdict runs ask, which is p.ask but in tests, and makes a verdict of what it found.
func (p *plan) verdict(ctx context.Context, t Target, ask func(*plan, context.Context, Target) finding) Verdict {
	began := time.Now()
	f := ask(p, ctx, t)
	v := Verdict{At: time.Now(), Healthy: f.healthy, Void: f.void && !f.healthy, Reason: tidy(f.reason, reasonMax)}
	v.Took = v.At.Sub(began)
	if !f.healthy && !f.void && (f.late || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		v.Reason = "timeout after " + p.timeout.String()
	}
	return v
}

// tidy makes text from an endpoint fit for one line: no controls, at most limit bytes.
func tidy(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
