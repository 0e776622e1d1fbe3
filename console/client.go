package console

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	clientWait = 60 * time.Second // a reload may read many files; whoever waits longer has lost the node
	clientBody = 64 << 20         // bytes of an answer: a view of 10,000 endpoints has about 40 MB
)

// Client talks to the admin listener of a node. It may be used by any goroutine.
type Client struct {
	base  string
	shown string // the address as the user gave it
	token string
	http  *http.Client
}

// NewClient makes a client for the admin listener at admin, host:port or a URL. token may be empty. It connects to nothing yet.
func NewClient(admin, token string) *Client {
	base := strings.TrimSuffix(admin, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return (&Client{base: base, shown: admin, token: token}).WithTLS(nil)
}

// WithTLS is the same client with its own authorities or certificate; nil: the system's. It takes effect with https addresses.
func (c *Client) WithTLS(cfg *tls.Config) *Client {
	d := *c
	d.http = &http.Client{
		Transport: &http.Transport{TLSClientConfig: cfg, MaxIdleConns: 1, IdleConnTimeout: idleTimeout, TLSHandshakeTimeout: headerTimeout},
		Timeout:   clientWait,
		// The API redirects nobody; following one would show the token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &d
}

// Status asks for the view.
func (c *Client) Status(ctx context.Context) (View, error) {
	var v View
	body, err := c.do(ctx, http.MethodGet, "/api/v1/status")
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return v, nil
}

// Post asks for a change, such as /api/v1/reload. The error is the node's own sentence.
func (c *Client) Post(ctx context.Context, path string) error {
	_, err := c.do(ctx, http.MethodPost, path)
	return err
}

// SetEndpoint asks for AdminUp, AdminDown or AdminDrain.
func (c *Client) SetEndpoint(ctx context.Context, pool, address, state string) error {
	return c.Post(ctx, endpointPath(pool, address, state))
}

// endpointPath is the route that sets an endpoint.
func endpointPath(pool, address, state string) string {
	return "/api/v1/pools/" + url.PathEscape(pool) + "/endpoints/" + url.PathEscape(address) + "/" + state
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	return c.exchange(ctx, method, path, "", nil)
}

// send posts a body.
func (c *Client) send(ctx context.Context, path, kind string, body io.Reader) ([]byte, error) {
	return c.exchange(ctx, http.MethodPost, path, kind, body)
}

// authorize says what the answer may be, and who asks.
func (c *Client) authorize(r *http.Request) {
	r.Header.Set("Accept", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
}

func (c *Client) exchange(ctx context.Context, method, path, kind string, sent io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, sent)
	if err != nil {
		return nil, fmt.Errorf("admin address %q cannot be asked: want host:port or a URL: %w", c.shown, err)
	}
	if c.authorize(r); kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	a, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(io.LimitReader(a.Body, clientBody))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s broke off: %w", c.shown, cause(err))
	}
	if a.StatusCode/100 == 2 {
		return body, nil
	}
	return nil, c.refusal(a, body)
}

// unreachable says in one sentence why nobody answered.
func (c *Client) unreachable(err error) error {
	return fmt.Errorf("no evenkeel answers at %s: %w", c.shown, cause(err))
}

// cause takes away what net/http and net put around an error and the user has just typed.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns
	}
	return err
}

// refusal turns an answer that is no success into an error.
func (c *Client) refusal(a *http.Response, body []byte) error {
	var p Problem
	if strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(body, &p) == nil && p.Reason != "" {
		return &RefusedError{Admin: c.shown, Problem: p}
	}
	// Below /prometheus/ errors have the form of Prometheus.
	var other struct{ ErrorType, Error string }
	if json.Unmarshal(body, &other) == nil && other.ErrorType != "" {
		return &RefusedError{Admin: c.shown, Problem: Problem{Status: a.StatusCode, Reason: other.ErrorType, Detail: other.Error}}
	}
	return fmt.Errorf("what answers at %s does not speak like evenkeel: status %s", c.shown, a.Status)
}

// RefusedError is a node's answer that it did not do what was asked.
type RefusedError struct {
	Admin   string // address as the user gave it
	Problem Problem
}

// Error is the node's sentence and its reason word.
func (e *RefusedError) Error() string {
	return e.Problem.Detail + " (" + e.Problem.Reason + ", " + e.Admin + ")"
}
