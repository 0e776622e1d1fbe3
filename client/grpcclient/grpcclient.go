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
		k, ticket, err := c.begin(ctx, method, cc.Target())
		if err != nil {
			return err
		}
		for k.number = 1; ; k.number++ {
			var seen answer
			actx, stop := k.attempt(ctx, c.o.AttemptTimeout)
			err := invoke(actx, method, in, out, cc, seen.options(opts)...)
			e := k.ended(ctx, actx, ticket, err, &seen)
			stop()
			v := k.judge(ctx, e)
			if !v.Again {
				return e.err
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
	began  time.Time
}

// begin counts a call, and asks for its first attempt.
func (c *Client) begin(ctx context.Context, method, target string) (*call, host.Ticket, error) {
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

// attempt is the context of one attempt: with what it takes along, and its time, if it has one.
func (k *call) attempt(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if class := client.ClassOf(ctx); class != "" {
		ctx = with(ctx, client.FieldClass, string(class))
	}
	if n := k.q.Caller + k.number - 1; n > 1 {
		ctx = with(ctx, retry.FieldAttempt, strconv.Itoa(n))
	}
	k.host.Sent()
	k.began = time.Now()
	if limit > 0 {
		return context.WithTimeout(ctx, limit) // and gRPC tells the server
	}
	return context.WithCancel(ctx)
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
	err  error
	a    retry.Attempt
	took time.Duration
}

// ended finds out how an attempt ended, and tells the host.
func (k *call) ended(ctx, attempt context.Context, ticket host.Ticket, err error, seen *answer) ending {
	now := time.Now()
	e := ending{err: err, took: now.Sub(k.began), a: retry.Attempt{Number: k.number, Kind: retry.Answered, Code: int(status.Code(err))}}
	if v := seen.first(retry.FieldPushback); v != "" {
		e.a.RetryAfter, e.a.NoRetry = retry.Pushback(v)
	}
	e.a.NoRetry = e.a.NoRetry || retry.ForbidsRetry(seen.first(strings.ToLower(retry.FieldNoRetry)))
	outcome, accepted := breaker.Success, true
	switch code := status.Code(err); {
	case ctx.Err() != nil && err != nil:
		e.a.Kind = retry.Cancelled
		if outcome, accepted = breaker.Ignored, false; errors.Is(ctx.Err(), context.DeadlineExceeded) && e.took >= waitSays {
			outcome = breaker.Failure
		}
	case err != nil && (attempt.Err() != nil || code == codes.DeadlineExceeded && over(attempt, ctx, now)):
		e.a.Kind = retry.TimedOut
		outcome, accepted = breaker.Failure, false
	case code == codes.Unavailable && seen.peer.Addr == nil:
		e.a.Kind = retry.Connect // it never had a connection, and so no server saw it
		outcome, accepted = breaker.Failure, false
	case code == codes.ResourceExhausted, code == codes.Unavailable && e.a.RetryAfter > 0:
		outcome, accepted = breaker.Pushback, false
	case code == codes.Unavailable, code == codes.DeadlineExceeded:
		outcome, accepted = breaker.Failure, false
	}
	k.host.Done(ticket, now, breaker.Result{Outcome: outcome, Took: e.took, RetryAfter: e.a.RetryAfter}, accepted)
	return e
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
	v := k.host.Judge(ctx, k.q, e.a, k.class)
	k.c.o.Observe(client.Attempt{Host: k.host.Name, Number: k.number, Status: int(status.Code(e.err)), Err: e.err, Took: e.took, Reason: v.Reason, Kept: v.Kept})
	return v
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
