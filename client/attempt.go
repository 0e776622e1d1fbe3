package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/client/internal/host"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
)

// errSlow is the cause of an attempt that was cancelled for AttemptTimeout.
var errSlow = errors.New("no answer in the time of an attempt")

// call is one request with all its attempts.
type call struct {
	t      *Transport
	host   *host.Host
	r      *http.Request
	ctx    context.Context
	stop   context.CancelFunc
	class  int
	q      retry.Request
	body   replay
	number int // of the last attempt
}

// begin counts a request.
func (t *Transport) begin(r *http.Request) *call {
	c := &call{t: t, r: r, ctx: r.Context(), stop: func() {}, class: host.Class(string(ClassOf(r.Context()))), body: replay{r: r}}
	if _, has := c.ctx.Deadline(); !has && t.o.Timeout > 0 {
		c.ctx, c.stop = context.WithTimeout(c.ctx, t.o.Timeout)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	_, keyed := r.Header[retry.FieldKey]
	c.q = retry.Request{Idempotent: retry.Idempotent(method) || IsIdempotent(c.ctx), Keyed: keyed, Caller: caller(c.ctx, r.Header)}
	c.host = t.hosts.Of(r.URL.Host, time.Now())
	return c
}

// over gives back what the call holds. An answer that is still read holds it until its body is closed.
func (c *call) over() {
	c.body.over()
	c.stop()
}

// ending is how an attempt ended.
type ending struct {
	resp  *http.Response
	err   error
	stop  context.CancelFunc // of the attempt
	a     retry.Attempt
	hedge bool
	took  time.Duration
	trace string // its traceparent
}

// failed says whether the attempt failed in a way that another one might mend.
func (e *ending) failed() bool { return e.err != nil || retry.Failed(e.a.Status, e.a.Code) }

// discard throws the answer away. What is left of its body is read within bounds, for the connection's sake.
func (e *ending) discard() {
	if e.resp != nil {
		timer := time.AfterFunc(drainFor, e.stop)
		_, _ = io.CopyN(io.Discard, e.resp.Body, drainMost)
		timer.Stop()
		_ = e.resp.Body.Close()
	}
	e.stop()
}

// attempt makes one attempt, or two with a hedge, and returns how it ended.
func (c *call) attempt(ticket host.Ticket) ending {
	ctx, cancel := context.WithCancelCause(c.ctx)
	stop := func() { cancel(context.Canceled) }
	if c.number > 1 || c.t.o.Hedge <= 0 || ticket.Trial() || !c.body.none() || !retry.Safe(c.r.Method) || c.q.Caller > 1 || c.t.o.Rules.Attempts == 1 {
		return c.send(ctx, cancel, stop, ticket, c.number)
	}
	ends := make(chan ending, 2) // whoever loses finds a place, and ends
	go func() { ends <- c.send(ctx, cancel, stop, ticket, 1) }()
	timer := time.NewTimer(c.t.o.Hedge)
	defer timer.Stop()
	select {
	case e := <-ends:
		return e
	case <-timer.C:
	}
	second, ok := c.host.Hedge(time.Now(), c.class)
	if !ok {
		return <-ends
	}
	ctx2, cancel2 := context.WithCancelCause(c.ctx)
	stop2 := func() { cancel2(context.Canceled) }
	go func() {
		e := c.send(ctx2, cancel2, stop2, second, 2)
		e.hedge = true
		ends <- e
	}()
	c.number = 2
	e := <-ends
	if e.failed() {
		e.discard()
		c.observe(&e, c.host.Reason(e.a), "")
		return <-ends
	}
	other := stop2
	if e.hedge {
		other = stop
	}
	other()
	go func() { // it ends as soon as the base sees the cancellation
		loser := <-ends
		loser.discard()
		c.observe(&loser, c.host.Reason(loser.a), "")
	}()
	return e
}

// send makes one attempt and tells the host what became of it.
func (c *call) send(ctx context.Context, cancel context.CancelCauseFunc, stop context.CancelFunc, ticket host.Ticket, number int) ending {
	began := time.Now()
	e := ending{stop: stop, a: retry.Attempt{Number: number}}
	out := c.r.WithContext(ctx)
	if c.t.o.NoFields {
		out.Header = c.r.Header.Clone()
	} else {
		out.Header = fields(c.ctx, c.r.Header, began, number)
		traced(WithAttempt(c.ctx, number), out.Header, c.t.o.Trace)
	}
	e.trace = out.Header.Get(FieldTraceparent)
	if out.Body, e.err = c.body.next(); e.err == nil {
		var timer *time.Timer
		if d := c.t.o.AttemptTimeout; d > 0 {
			timer = time.AfterFunc(d, func() { cancel(errSlow) })
		}
		c.host.Sent()
		e.resp, e.err = c.t.o.Base.RoundTrip(out)
		if timer != nil && !timer.Stop() && e.resp != nil { // it came with the end of its time: its body cannot be read
			_ = e.resp.Body.Close()
			e.resp, e.err = nil, context.Canceled
		}
	}
	now := time.Now()
	e.took = now.Sub(began)
	if e.err == nil {
		e.read(now)
	} else {
		c.explain(ctx, &e)
	}
	outcome, accepted := e.says()
	c.host.Done(ticket, now, breaker.Result{Outcome: outcome, Took: e.took, RetryAfter: e.a.RetryAfter}, accepted)
	return e
}

// read takes the head of an answer in.
func (e *ending) read(now time.Time) {
	h := e.resp.Header
	e.a.Kind, e.a.Status = retry.Answered, e.resp.StatusCode
	e.a.RetryAfter = retry.After(h.Get("Retry-After"), now)
	e.a.NoRetry = retry.ForbidsRetry(h.Get(retry.FieldNoRetry))
	if code, err := strconv.Atoi(h.Get("Grpc-Status")); err == nil && strings.HasPrefix(h.Get("Content-Type"), "application/grpc") {
		e.a.Code = code
		if v := h.Get(retry.FieldPushback); v != "" {
			wait, forbids := retry.Pushback(v)
			e.a.RetryAfter, e.a.NoRetry = wait, e.a.NoRetry || forbids
		}
	}
}

// explain finds out what an error was.
func (c *call) explain(ctx context.Context, e *ending) {
	lost := ctx.Err() != nil // before the next line
	e.stop()
	var dial *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case c.ctx.Err() != nil:
		e.a.Kind, e.err = retry.Cancelled, context.Cause(c.ctx)
	case errors.Is(context.Cause(ctx), errSlow):
		e.a.Kind = retry.TimedOut
		e.err = fmt.Errorf("client: %s has not answered in %v: %w", c.host.Name, c.t.o.AttemptTimeout, context.DeadlineExceeded)
	case lost:
		e.a.Kind = retry.Cancelled // a hedge that lost
	case errors.As(e.err, &certificate):
		e.a.Kind = retry.Cancelled // it will not be another one next time
	case errors.As(e.err, &dial) && dial.Op == "dial", errors.As(e.err, &name):
		e.a.Kind = retry.Connect
	default:
		e.a.Kind = retry.Reset
	}
}

// says is what the attempt tells about the host.
func (e *ending) says() (outcome breaker.Outcome, accepted bool) {
	switch e.a.Kind {
	case retry.Answered:
		switch {
		case e.a.Status == http.StatusTooManyRequests, e.a.Status == http.StatusServiceUnavailable:
			return breaker.Pushback, false
		case retry.Failed(e.a.Status, e.a.Code):
			return breaker.Failure, false
		}
		return breaker.Success, true
	case retry.Cancelled:
		// Whoever left says nothing of the host. A deadline that passed does, if the host had some time.
		if errors.Is(e.err, context.DeadlineExceeded) && e.took >= waitSays {
			return breaker.Failure, false
		}
		return breaker.Ignored, false
	}
	return breaker.Failure, false
}

// judge says whether and when another attempt follows the one that ended.
func (c *call) judge(e *ending) host.Verdict {
	settle := drainFor
	if e.resp != nil {
		settle = 0
	}
	q, a := c.q, e.a
	q.Gone = e.failed() && c.body.gone(settle)
	a.Number = c.number
	v := c.host.Judge(c.ctx, q, a, c.class)
	c.observe(e, v.Reason, v.Kept)
	return v
}

// observe tells of an attempt that ended.
func (c *call) observe(e *ending, reason retry.Reason, kept string) {
	c.t.o.Observe(Attempt{Host: c.host.Name, Number: e.a.Number, Hedge: e.hedge, Status: e.a.Status, Err: e.err, Took: e.took, Reason: reason, Trace: e.trace, Kept: kept})
}

// finish hands the last attempt to whoever asked.
func (c *call) finish(e *ending, v host.Verdict) (*http.Response, error) {
	c.body.over()
	if e.err != nil {
		e.stop()
		c.stop()
		return nil, e.err
	}
	if v.Spent {
		// Whoever passes this answer on, or has repeats of his own, sees that it was tried here.
		e.resp.Header.Set(retry.FieldNoRetry, "1")
	}
	e.resp.Body = holding(e.resp.Body, func() { e.stop(); c.stop() })
	return e.resp, nil
}

// held is the body of an answer whose context ends with it.
type held struct {
	io.ReadCloser
	stop func()
}

// Read implements io.Reader.
func (b *held) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.stop()
	}
	return n, err
}

// Close implements io.Closer.
func (b *held) Close() error {
	err := b.ReadCloser.Close()
	b.stop()
	return err
}

// heldBoth is held of an answer that both sides write to: 101.
type heldBoth struct {
	held
	io.Writer
}

func holding(body io.ReadCloser, stop func()) io.ReadCloser {
	h := held{body, stop}
	if w, is := body.(io.Writer); is {
		return &heldBoth{h, w}
	}
	return &h
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
