package probe

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/even-keel/evenkeel/site"
	"golang.org/x/net/http/httpguts"
)

const (
	// headMax is how many bytes a head of an answer may have.
	headMax = 64 << 10
	// interimMax is how many 1xx answers may come before the real one.
	interimMax = 5
	// shownMax is how many bytes of an endpoint's text stand in a reason.
	shownMax = 60
)

// httpKind asks for a path. Every probe has a connection of its own: one that is kept could be well
// while no new one can be made, and clients make new ones. Redirects are answers, they are not followed.
type httpKind struct {
	method string
	url    url.URL
	host   string
	scheme string
	fields http.Header
	status statuses
	header []fieldMatch
	body   *regexp.Regexp
}

type fieldMatch struct {
	name string
	re   *regexp.Regexp
}

func newHTTP(cfg *site.ProbeHTTP) (*httpKind, error) {
	k := &httpKind{method: cmp.Or(cfg.Method, "GET"), host: cfg.Host, scheme: cmp.Or(cfg.Scheme, "auto"), fields: http.Header{}}
	path := cmp.Or(cfg.Path, "/")
	u, err := url.ParseRequestURI(path)
	switch {
	case err != nil || !strings.HasPrefix(path, "/"):
		return nil, fmt.Errorf("path %q: want a path that starts with /", path)
	case !httpguts.ValidHeaderFieldName(k.method) || k.method == "CONNECT":
		return nil, fmt.Errorf("method %q: want a request method such as GET or HEAD", k.method)
	case !httpguts.ValidHostHeader(k.host):
		return nil, fmt.Errorf("host %q: want a host name, with a port if need be", k.host)
	case !slices.Contains([]string{"auto", "http", "https"}, k.scheme):
		return nil, fmt.Errorf("scheme %q: allowed are auto, http, https", k.scheme)
	}
	k.url = url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}
	if k.status, err = parseStatuses(cfg.Status); err != nil {
		return nil, err
	}
	if err := k.readFields(cfg.Headers); err != nil {
		return nil, err
	}
	if err := k.readMatches(cfg); err != nil {
		return nil, err
	}
	return k, nil
}

// readFields checks the request's own header fields.
func (k *httpKind) readFields(fields map[string]string) error {
	k.fields.Set("User-Agent", "evenkeel-probe")
	for name, value := range fields {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("headers: %q is no name of a header", name)
		case !httpguts.ValidHeaderFieldValue(value):
			return fmt.Errorf("headers: the value of %s has characters that are not allowed", name)
		case strings.EqualFold(name, "Host"):
			return errors.New("headers: Host is set by host")
		case slices.ContainsFunc([]string{"Content-Length", "Transfer-Encoding", "Connection", "Trailer"}, func(s string) bool { return strings.EqualFold(s, name) }):
			return fmt.Errorf("headers: %s is set by the probe itself", name)
		}
		k.fields.Set(name, value)
	}
	return nil
}

// readMatches compiles what the answer must look like.
func (k *httpKind) readMatches(cfg *site.ProbeHTTP) error {
	for name, expr := range cfg.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("header: %q is no name of a header", name)
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return fmt.Errorf("header %s %q: %w", name, expr, err)
		}
		k.header = append(k.header, fieldMatch{http.CanonicalHeaderKey(name), re})
	}
	slices.SortFunc(k.header, func(a, b fieldMatch) int { return strings.Compare(a.name, b.name) })
	if cfg.Body == "" {
		return nil
	}
	var err error
	if k.body, err = regexp.Compile(cfg.Body); err != nil {
		return fmt.Errorf("body %q: %w", cfg.Body, err)
	}
	return nil
}

func (k *httpKind) ask(ctx context.Context, t Target) finding {
	secured := k.scheme == "https" || k.scheme == "auto" && t.TLS != nil
	protocol := "http/1.1"
	if t.H2 {
		protocol = "h2"
	}
	conn, hang, f := dial(ctx, t, secured, protocol)
	if conn == nil {
		return f
	}
	defer hang()
	req := k.request(ctx, t, secured)
	if t.H2 {
		resp, end, f := askH2(conn, req)
		if resp == nil {
			return f
		}
		defer end()
		return k.judge(resp)
	}
	resp, f := askH1(conn, req)
	if resp == nil {
		return f
	}
	return k.judge(resp)
}

func (k *httpKind) request(ctx context.Context, t Target, secured bool) *http.Request {
	u := k.url
	u.Scheme, u.Host = "http", t.Address
	if secured {
		u.Scheme = "https"
	}
	req := &http.Request{Method: k.method, URL: &u, Host: cmp.Or(k.host, t.Address), Header: k.fields.Clone(), Close: !t.H2}
	return req.WithContext(ctx)
}

// askH1 sends req over conn and reads the head of the answer; the body may still be read from it, up to answerMax.
// A nil response comes with the finding why.
func askH1(conn net.Conn, req *http.Request) (*http.Response, finding) {
	if err := req.Write(conn); err != nil && !peerClosed(err) {
		return nil, failed("send", err)
	}
	// An endpoint may answer and close before it took the request in: its answer counts all the same.
	left := &io.LimitedReader{R: conn, N: headMax}
	r := bufio.NewReader(left)
	for range interimMax + 1 {
		resp, err := http.ReadResponse(r, req)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) && left.N == headMax:
			return nil, failed("answer", io.EOF)
		case err != nil && left.N <= 0:
			return nil, bad("answer: head is larger than %d bytes", headMax)
		case err != nil && strings.HasPrefix(err.Error(), "malformed"):
			return nil, bad("answer: not HTTP")
		case err != nil:
			return nil, failed("answer", err)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			// The sizes of chunks come on top of the body's own bytes.
			left.N = 2 * answerMax
			return resp, finding{}
		}
	}
	return nil, bad("answer: more than %d interim answers", interimMax)
}

// peerClosed says that a write failed because the other side closed; it may have answered first.
func peerClosed(err error) bool {
	f := failed("send", err)
	return f.reason == "send: reset"
}

// askH2 sends req over conn, which was opened for HTTP/2. The caller calls end when it is done with the answer.
func askH2(conn net.Conn, req *http.Request) (resp *http.Response, end func(), f finding) {
	if c, ok := conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, nil, bad("handshake: endpoint does not offer h2")
	}
	given := false
	give := func(context.Context, string, string) (net.Conn, error) {
		if given {
			return nil, errSecond
		}
		given = true
		return conn, nil
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{
		DialContext: give, DialTLSContext: give, Protocols: &protocols,
		DisableCompression: true, MaxResponseHeaderBytes: headMax, MaxIdleConnsPerHost: 1,
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		tr.CloseIdleConnections()
		return nil, nil, failedH2(err)
	}
	return resp, func() { resp.Body.Close(); tr.CloseIdleConnections() }, finding{}
}

var errSecond = errors.New("endpoint refused the first connection's stream")

// failedH2 gives the errors of the HTTP/2 transport, which have no exported types, a short word.
func failedH2(err error) finding {
	f := failed("answer", err)
	switch {
	case f.void, f.late:
		return f
	case strings.Contains(err.Error(), "HTTP/1.1"), strings.Contains(err.Error(), "PROTOCOL_ERROR"), strings.Contains(err.Error(), "FRAME_SIZE_ERROR"),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "http2: client conn"):
		// One word for both: which of them the transport reports depends on which of its goroutines sees the end first.
		return bad("answer: not HTTP/2, or closed without one")
	}
	return f
}

// judge compares an answer with what was wanted.
func (k *httpKind) judge(resp *http.Response) finding {
	if !k.status.has(resp.StatusCode) {
		return bad("status %d, want %s", resp.StatusCode, k.status.text)
	}
	for _, m := range k.header {
		values := resp.Header.Values(m.name)
		if len(values) == 0 {
			return bad("header %s is absent", m.name)
		}
		if !slices.ContainsFunc(values, m.re.MatchString) {
			return bad("header %s is %q, want a match of %s", m.name, tidy(values[0], shownMax), m.re)
		}
	}
	if k.body == nil {
		return good("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	switch {
	case k.body.Match(body):
		return good("status %d, body matches", resp.StatusCode)
	case err != nil:
		return failed("body", err)
	}
	return bad("body does not match %s", k.body)
}
