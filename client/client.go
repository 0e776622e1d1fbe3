// Package client gives Go programs the manners of a gateway for the calls that they make: deadlines and classes that travel along, few repeats
// on a budget, throttling of what a server refuses anyway, a breaker for each host, hedging of reads.
//
//	http.Client{Transport: client.New(client.Options{})}
//
// It needs the standard library only. Its exported names, and those of the packages of contain that it uses, are a promise to
// other programs; the rest of this module is not.
package client

import (
	"context"
	"net/http"
	"time"

	"github.com/even-keel/evenkeel/client/internal/host"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/contain/throttle"
)

// Options say how a Transport behaves. The zero value is meant for use.
type Options struct {
	// Base sends one attempt. nil: http.DefaultTransport.
	Base http.RoundTripper

	// Timeout is the deadline of requests whose context has none, to the end of the answer's body. 0: none.
	Timeout time.Duration
	// AttemptTimeout is how long one attempt waits for the head of its answer. 0: as long as the deadline lets it.
	AttemptTimeout time.Duration

	// Rules say what is tried again. What is zero is that of retry.Default(): what is safe, three attempts in all. Attempts: 1 never tries again.
	Rules retry.Rules
	// Share of the requests may be repeats and hedges, up to 1. 0: 0.1; negative: none.
	Share float64
	// Hedge sends a request that only reads (GET, HEAD, OPTIONS, TRACE) and has no body a second time when there is no answer head after this.
	// Whichever answers first wins, the other is cancelled. A good value is what 95 % of answers need. 0: never.
	Hedge time.Duration

	// Throttle decides what is not sent because the host has refused so much, or asked for silence, for each class apart.
	Throttle   throttle.Config
	NoThrottle bool
	// Breaker decides when a host that fails is left alone. The zero value opens after 3 failures in a row that lasted a second.
	Breaker   breaker.Config
	NoBreaker bool

	// Hosts is how many hosts are remembered; the one that was asked longest ago is forgotten for a new one. 0: 1024.
	Hosts int
	// NoFields sends nothing of deadline, class, attempt and trace: for servers that are not yours.
	NoFields bool
	// Trace says where in a trace an attempt is, by the values of traceparent and tracestate (W3C Trace Context): how a program's tracer has its traces
	// go on. It is asked for each attempt, of hedges at the same time, with a context that says by AttemptOf which one it is. When it says nothing, or is
	// nil, what WithTrace or Receive put into the context is passed on. A request that has a traceparent keeps it.
	Trace func(ctx context.Context) (traceparent, tracestate string)
	// Random gives numbers from [0, 1), from any goroutine. nil: math/rand/v2.
	Random func() float64
	// Observe is told of every attempt when it ended, and of requests that were not sent. It is called from the goroutine of the request, and from
	// another one for an attempt that was cancelled as the one beside it (Hedge) had answered. It must not wait. nil: nobody is told.
	Observe func(Attempt)
}

// Limits without an option.
const (
	// waitSays is how long an attempt must have waited for its being given up at the deadline to say something of the host.
	waitSays = 100 * time.Millisecond
	// drainMost and drainFor bound what is read of an answer that is thrown away, so that its connection can be used again.
	drainMost = 64 << 10
	drainFor  = 50 * time.Millisecond
)

// Refused is the error of a request that was not sent, as it would most likely have failed. Find it with errors.As.
type Refused = host.Refused

// Stages that refuse.
const (
	StageThrottle = host.StageThrottle
	StageBreaker  = host.StageBreaker
)

// Status is what a Transport knows of one host.
type Status = host.Status

// Attempt is one attempt that ended, or a request that was not sent.
type Attempt struct {
	Host   string
	Number int  // 1 for the first
	Hedge  bool // made beside another one
	Status int  // of the answer; 0: there was none
	Err    error
	Took   time.Duration // until the head of the answer
	Reason retry.Reason  // what failed; retry.None: nothing that is ever repeated
	Trace  string        // traceparent that it was sent with; empty: none
	// Kept is why what failed is not repeated: a word of retry.Denial, or a stage; empty: it is repeated, or has not failed.
	Kept string
}

// Transport is an http.RoundTripper with manners. It may be used from any goroutine, and starts none that outlives the requests it was given.
type Transport struct {
	o     Options
	hosts *host.Hosts
}

// New makes a Transport. Values out of their range are replaced by the nearest allowed.
func New(o Options) *Transport {
	if o.Base == nil {
		o.Base = http.DefaultTransport
	}
	if o.Observe == nil {
		o.Observe = func(Attempt) {}
	}
	return &Transport{o: o, hosts: host.New(host.Config{Rules: o.Rules, Share: o.Share, Throttle: o.Throttle, NoThrottle: o.NoThrottle,
		Breaker: o.Breaker, NoBreaker: o.NoBreaker, Most: o.Hosts, Random: o.Random})}
}

// RoundTrip implements http.RoundTripper. An error is that of the last attempt, or a *Refused when the request was not sent.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.begin(r)
	ticket, refused := c.host.Ask(time.Now(), c.class)
	if refused != nil {
		c.over()
		refused.Method = r.Method
		t.o.Observe(Attempt{Host: c.host.Name, Number: 1, Err: refused})
		return nil, refused
	}
	for c.number = 1; ; c.number++ {
		e := c.attempt(ticket)
		v := c.judge(&e)
		if !v.Again {
			return c.finish(&e, v)
		}
		ticket = v.Ticket
		e.discard()
		if err := sleep(c.ctx, v.Wait); err != nil {
			c.host.Drop(ticket, time.Now())
			c.over()
			return nil, err
		}
	}
}

// Status is what is known of each host, by name.
func (t *Transport) Status() []Status { return t.hosts.Status() }

// CloseIdleConnections does so at the base.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.o.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}
