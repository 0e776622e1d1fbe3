// Package grpcclient gives gRPC calls the manners that package client gives HTTP requests, as interceptors.
//
//	c := grpcclient.New(grpcclient.Options{})
//	grpc.NewClient(target, grpc.WithUnaryInterceptor(c.Unary()), grpc.WithStreamInterceptor(c.Stream()), …)
//
// A method of gRPC does not say whether it may be called twice. So a call is tried again when no server saw it; all others only if
// Options.Idempotent, client.WithIdempotent or an idempotency-key in its metadata says so.
package grpcclient

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/client/internal/host"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/contain/throttle"
)

// Options say how calls behave. The zero value is meant for use. What is called as in client.Options means the same.
type Options struct {
	Timeout        time.Duration // of calls whose context has no deadline; 0: none
	AttemptTimeout time.Duration // of one attempt of a unary call; 0: none
	Rules          retry.Rules
	Share          float64
	Throttle       throttle.Config
	NoThrottle     bool
	Breaker        breaker.Config
	NoBreaker      bool
	Random         func() float64
	Trace          func(ctx context.Context) (traceparent, tracestate string)
	Hedge          time.Duration        // of unary calls that may be called twice without harm; 0: never
	Observe        func(client.Attempt) // Status is the code of gRPC

	// Idempotent says which methods ("/shop.Cart/Get") may be called twice without harm. nil: none.
	Idempotent func(method string) bool
}

// waitSays is how long an attempt must have waited for its being given up at the deadline to say something of the server.
const waitSays = 100 * time.Millisecond

// Client makes interceptors, which share a memory of each target. It may be used from any goroutine.
type Client struct {
	o     Options
	hosts *host.Hosts
}

// New makes a Client.
func New(o Options) *Client {
	if o.Observe == nil {
		o.Observe = func(client.Attempt) {}
	}
	return &Client{o: o, hosts: host.New(host.Config{Rules: o.Rules, Share: o.Share, Throttle: o.Throttle, NoThrottle: o.NoThrottle,
		Breaker: o.Breaker, NoBreaker: o.NoBreaker, Random: o.Random})}
}

// Status is what is known of each target, by name.
func (c *Client) Status() []client.Status { return c.hosts.Status() }

// Unary is the interceptor for calls with one request and one answer.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, stop := c.deadline(ctx)
		defer stop()
		k, ticket, err := c.ask(ctx, method, cc.Target())
		if err != nil {
			return err
		}
		u := &unary{call: k, ctx: ctx, out: out, opts: opts, invoke: func(ctx context.Context, out any, opts []grpc.CallOption) error {
			return invoke(ctx, method, in, out, cc, opts...)
		}}
		for k.number = 1; ; k.number++ {
			e := u.attempt(ticket)
			v := k.judge(ctx, e)
			if !v.Again {
				return e.final(v)
			}
			if err := k.wait(ctx, v); err != nil {
				return err
			}
			ticket = v.Ticket
		}
	}
}

// deadline gives ctx the deadline of the options, if it has none.
func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); !has && c.o.Timeout > 0 {
		return context.WithTimeout(ctx, c.o.Timeout)
	}
	return context.WithCancel(ctx)
}

// call is one call with all its attempts.
type call struct {
	c      *Client
	host   *host.Host
	class  int
	q      retry.Request
	number int // of the last attempt
}

// ask counts a call, and asks for its first attempt.
func (c *Client) ask(ctx context.Context, method, target string) (*call, host.Ticket, error) {
	now := time.Now()
	md, _ := metadata.FromOutgoingContext(ctx)
	k := &call{c: c, host: c.hosts.Of(target, now), class: host.Class(string(client.ClassOf(ctx))), q: retry.Request{
		Idempotent: client.IsIdempotent(ctx) || c.o.Idempotent != nil && c.o.Idempotent(method),
		Keyed:      len(md.Get(retry.FieldKey)) > 0,
		Caller:     client.AttemptOf(ctx),
	}}
	ticket, refused := k.host.Ask(now, k.class)
	if refused != nil {
		refused.Method = method
		c.o.Observe(client.Attempt{Host: target, Number: 1, Err: refused})
		return nil, ticket, refusal{refused}
	}
	return k, ticket, nil
}

// refusal is a *client.Refused that gRPC takes for UNAVAILABLE.
type refusal struct{ *client.Refused }

// Unwrap lets errors.As find the *client.Refused.
func (r refusal) Unwrap() error { return r.Refused }

// GRPCStatus is what status.FromError finds.
func (r refusal) GRPCStatus() *status.Status { return status.New(codes.Unavailable, r.Error()) }

// try is one attempt.
type try struct {
	ctx    context.Context
	stop   context.CancelCauseFunc
	ticket host.Ticket
	number int
	began  time.Time
	trace  string // its traceparent
	seen   answer
	given  atomic.Bool // the ticket was given back
}

// errLost is the cause of an attempt that ended because the one beside it answered.
var errLost = errors.New("the attempt beside it answered")

// begin begins an attempt: its context has what it takes along, and its time, if it has one.
func (k *call) begin(ctx context.Context, ticket host.Ticket, number int, limit time.Duration) *try {
	t := &try{ticket: ticket, number: number}
	if class := client.ClassOf(ctx); class != "" {
		ctx = with(ctx, client.FieldClass, string(class))
	}
	if n := k.q.Caller + number - 1; n > 1 {
		ctx = with(ctx, retry.FieldAttempt, strconv.Itoa(n))
	}
	ctx, t.trace = k.traced(ctx, number)
	k.host.Sent()
	t.began = time.Now()
	t.ctx, t.stop = context.WithCancelCause(ctx)
	if limit > 0 {
		var over context.CancelFunc
		t.ctx, over = context.WithTimeout(t.ctx, limit) // and gRPC tells the server
		stop := t.stop
		t.stop = func(cause error) { stop(cause); over() }
	}
	return t
}

// traced puts into the metadata where in a trace an attempt is. A traceparent that the program has put there itself stays.
func (k *call) traced(ctx context.Context, number int) (context.Context, string) {
	md, _ := metadata.FromOutgoingContext(ctx)
	if own := md.Get(client.FieldTraceparent); len(own) > 0 {
		return ctx, own[0]
	}
	place := ctx
	if ask := k.c.o.Trace; ask != nil {
		parent, state := ask(client.WithAttempt(ctx, number))
		place = client.WithTrace(ctx, parent, state)
	}
	parent, state := client.TraceOf(place)
	if parent == "" {
		return ctx, ""
	}
	if ctx = with(ctx, client.FieldTraceparent, parent); state != "" {
		ctx = with(ctx, client.FieldTracestate, state)
	}
	return ctx, parent
}

// with sets a field of the metadata that is sent.
func with(ctx context.Context, name, value string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	if md == nil {
		md = metadata.MD{}
	}
	md.Set(name, value)
	return metadata.NewOutgoingContext(ctx, md)
}

// answer is what an attempt saw besides its message.
type answer struct {
	head, trailer metadata.MD
	peer          peer.Peer
}

func (a *answer) options(opts []grpc.CallOption) []grpc.CallOption {
	return append(opts[:len(opts):len(opts)], grpc.Header(&a.head), grpc.Trailer(&a.trailer), grpc.Peer(&a.peer))
}

// first is the first value of a field in the trailer or the head.
func (a *answer) first(name string) string {
	for _, md := range []metadata.MD{a.trailer, a.head} {
		if v := md.Get(name); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// ending is how an attempt ended.
type ending struct {
	err   error
	a     retry.Attempt
	took  time.Duration
	hedge bool
	trace string
}

// failed says whether the attempt failed in a way that another one might mend.
func (e *ending) failed() bool {
	return e.err != nil && (e.a.Kind != retry.Answered || retry.Failed(0, e.a.Code))
}

// ended finds out how an attempt ended, and tells the host.
func (k *call) ended(whole context.Context, t *try, err error) ending {
	now := time.Now()
	e := ending{err: err, took: now.Sub(t.began), trace: t.trace, a: retry.Attempt{Number: t.number, Kind: retry.Answered, Code: int(status.Code(err))}}
	if v := t.seen.first(retry.FieldPushback); v != "" {
		e.a.RetryAfter, e.a.NoRetry = retry.Pushback(v)
	}
	e.a.NoRetry = e.a.NoRetry || retry.ForbidsRetry(t.seen.first(strings.ToLower(retry.FieldNoRetry)))
	outcome, accepted := breaker.Success, true
	switch code := status.Code(err); {
	case err != nil && errors.Is(context.Cause(t.ctx), errLost):
		e.a.Kind, outcome, accepted = retry.Cancelled, breaker.Ignored, false
	case whole.Err() != nil && err != nil:
		e.a.Kind = retry.Cancelled
		if outcome, accepted = breaker.Ignored, false; errors.Is(whole.Err(), context.DeadlineExceeded) && e.took >= waitSays {
			outcome = breaker.Failure
		}
	case err != nil && (t.ctx.Err() != nil || code == codes.DeadlineExceeded && over(t.ctx, whole, now)):
		e.a.Kind = retry.TimedOut
		outcome, accepted = breaker.Failure, false
	case code == codes.Unavailable && t.seen.peer.Addr == nil:
		e.a.Kind = retry.Connect // it never had a connection, and so no server saw it
		outcome, accepted = breaker.Failure, false
	case code == codes.ResourceExhausted, code == codes.Unavailable && e.a.RetryAfter > 0:
		outcome, accepted = breaker.Pushback, false
	case code == codes.Unavailable, code == codes.DeadlineExceeded:
		outcome, accepted = breaker.Failure, false
	}
	if given := t.given.Swap(true); !given || outcome != breaker.Ignored {
		k.host.Done(t.ticket, now, breaker.Result{Outcome: outcome, Took: e.took, RetryAfter: e.a.RetryAfter}, accepted)
	}
	return e
}

// drop gives back the ticket of an attempt that has not ended. What becomes of it is told when it ends, if it says anything.
func (k *call) drop(t *try) {
	if !t.given.Swap(true) {
		k.host.Drop(t.ticket, time.Now())
	}
}

// final is the error of a call whose last attempt it is.
func (e *ending) final(v host.Verdict) error {
	if e.err == nil || e.a.RetryAfter == 0 && !e.a.NoRetry && !v.Spent {
		return e.err
	}
	return &said{e.err, e.a.RetryAfter, e.a.NoRetry || v.Spent}
}

// over says whether the time of an attempt is over, and not that of the whole. The server, which was told, may have found so some moments sooner.
func over(attempt, whole context.Context, now time.Time) bool {
	const sooner = 20 * time.Millisecond
	end, limited := attempt.Deadline()
	last, has := whole.Deadline()
	return limited && (!has || end.Before(last)) && now.Add(sooner).After(end)
}

// judge says whether and when another attempt follows.
func (k *call) judge(ctx context.Context, e ending) host.Verdict {
	a := e.a
	a.Number = k.number
	v := k.host.Judge(ctx, k.q, a, k.class)
	k.observe(e, v.Reason, v.Kept)
	return v
}

// observe tells of an attempt that ended.
func (k *call) observe(e ending, reason retry.Reason, kept string) {
	k.c.o.Observe(client.Attempt{Host: k.host.Name, Number: e.a.Number, Hedge: e.hedge, Status: int(status.Code(e.err)), Err: e.err, Took: e.took, Reason: reason,
		Trace: e.trace, Kept: kept})
}

// wait waits before a repeat.
func (k *call) wait(ctx context.Context, v host.Verdict) error {
	timer := time.NewTimer(v.Wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		k.host.Drop(v.Ticket, time.Now())
		return status.FromContextError(ctx.Err()).Err()
	}
}
