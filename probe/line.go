package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// longAgo is a deadline in the past: setting it wakes whoever reads or writes.
var longAgo = time.Unix(1, 0)

// connect opens a connection for one probe. It ends with ctx; the caller calls hang when done.
func connect(ctx context.Context, address string) (conn net.Conn, hang func(), f finding) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, failed("connect", err)
	}
	if end, ok := ctx.Deadline(); ok {
		conn.SetDeadline(end)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	if c, ok := conn.(*net.TCPConn); ok {
		// Close by reset, as HAProxy's checks do: the verdict is there, nothing is lost, and a prober of 10,000
		// endpoints would else keep 120,000 sockets in TIME_WAIT.
		c.SetLinger(0)
	}
	return conn, func() { stop(); conn.Close() }, finding{}
}

// secure shakes hands over conn and offers one protocol by ALPN, or none.
func secure(ctx context.Context, conn net.Conn, t Target, protocol string) (*tls.Conn, finding) {
	cfg := &tls.Config{}
	if t.TLS != nil {
		cfg = t.TLS.Clone()
	}
	cfg.NextProtos = nil
	if protocol != "" {
		cfg.NextProtos = []string{protocol}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = hostOf(t.Address)
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, failed("handshake", err)
	}
	return c, finding{}
}

// dial opens a connection and shakes hands when secured says so.
func dial(ctx context.Context, t Target, secured bool, protocol string) (conn net.Conn, hang func(), f finding) {
	conn, hang, f = connect(ctx, t.Address)
	if conn == nil || !secured {
		return conn, hang, f
	}
	c, f := secure(ctx, conn, t, protocol)
	if c == nil {
		hang()
		return nil, nil, f
	}
	return c, hang, finding{}
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// wants are the failures of this side: they say nothing about the endpoint.
var wants = []struct {
	errno syscall.Errno
	text  string
}{
	{syscall.EMFILE, "too many open files in this process"},
	{syscall.ENFILE, "too many open files on this host"},
	{syscall.ENOBUFS, "no buffer space on this host"},
	{syscall.ENOMEM, "no memory on this host"},
	{syscall.EADDRNOTAVAIL, "no free local port or address"},
	{syscall.EAGAIN, "no free process on this host"},
}

// answers are the failures that have a short word.
var answers = []struct {
	err  error
	text string
}{
	{syscall.ECONNREFUSED, "refused"},
	{syscall.ECONNRESET, "reset"},
	{syscall.EPIPE, "reset"},
	{syscall.ECONNABORTED, "reset"},
	{syscall.EHOSTUNREACH, "host unreachable"},
	{syscall.ENETUNREACH, "network unreachable"},
	{syscall.EPERM, "not permitted"},
	{syscall.EACCES, "not permitted"},
	{io.ErrUnexpectedEOF, "cut short"},
	{io.EOF, "closed without an answer"},
}

// failed makes a finding of an error in one phase of a probe: connect, handshake, send, answer.
func failed(phase string, err error) finding {
	for _, w := range wants {
		if errors.Is(err, w.errno) {
			return finding{void: true, reason: "not probed: " + w.text}
		}
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return bad("resolve: no such host")
	case errors.As(err, &dns) && !dns.IsTimeout:
		return bad("resolve: %s", dns.Err)
	case isTimeout(err):
		return finding{late: true, reason: "timeout"}
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return bad("%s: %s", phase, a.text)
		}
	}
	if text := certificateFault(err); text != "" {
		return bad("certificate: %s", text)
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return bad("%s: not TLS", phase)
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Err == nil {
		return bad("%s: %v", phase, err)
	}
	// crypto/tls wraps the alerts of the other side like this, in a type that it keeps to itself.
	if op.Op == "remote error" {
		return bad("%s: refused with alert: %s", phase, strings.TrimPrefix(op.Err.Error(), "tls: "))
	}
	return bad("%s: %v", phase, op.Err)
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// certificateFault says in short what is wrong with a certificate; empty: the error is of another kind.
func certificateFault(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var roots x509.SystemRootsError
	switch {
	case errors.As(err, &unknown):
		return "signed by an unknown authority"
	case errors.As(err, &name):
		return "not valid for " + name.Host
	case errors.As(err, &roots):
		return "no system authorities to verify with"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if time.Now().Before(invalid.Cert.NotBefore) {
			return "not valid before " + invalid.Cert.NotBefore.UTC().Format(time.DateTime) + " UTC"
		}
		return "ended " + invalid.Cert.NotAfter.UTC().Format(time.DateTime) + " UTC"
	case errors.As(err, &invalid):
		return invalid.Error()
	}
	return ""
}
