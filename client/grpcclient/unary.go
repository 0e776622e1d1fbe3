package grpcclient

import (
	"context"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/even-keel/evenkeel/client/internal/host"
)

// unary is a call with one request and one answer.
type unary struct {
	*call
	ctx    context.Context
	out    any
	opts   []grpc.CallOption
	invoke func(ctx context.Context, out any, opts []grpc.CallOption) error
}

// attempt makes one attempt, or two with a hedge, and returns how it ended.
func (u *unary) attempt(ticket host.Ticket) ending {
	limit, after := u.c.o.AttemptTimeout, u.c.o.Hedge
	first := u.begin(u.ctx, ticket, u.number, limit)
	if after <= 0 || u.number > 1 || ticket.Trial() || !u.q.Idempotent || u.q.Caller > 1 || u.c.o.Rules.Attempts == 1 || reflect.ValueOf(u.out).Kind() != reflect.Pointer {
		return u.make(first, u.out, u.opts)
	}
	ends := make(chan ending, 2)
	go func() { ends <- u.make(first, u.out, u.opts) }()
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case e := <-ends:
		return e
	case <-timer.C:
	}
	ticket, ok := u.host.Hedge(time.Now(), u.class)
	if !ok {
		return <-ends
	}
	u.number = 2
	second, aside := u.begin(u.ctx, ticket, 2, limit), newAside(u.out, u.opts)
	go func() {
		e := u.make(second, aside.out, aside.opts)
		e.hedge = true
		ends <- e
	}()
	e := <-ends
	if e.failed() {
		u.observe(e, u.host.Reason(e.a), "")
		e = <-ends
	} else { // the other is called off. It ends before the call does, since it writes to what the caller gave
		first.stop(errLost)
		second.stop(errLost)
		lost := <-ends
		u.observe(lost, u.host.Reason(lost.a), "")
	}
	if e.hedge && e.err == nil {
		aside.give(u.out)
	}
	return e
}

// make makes an attempt.
func (u *unary) make(t *try, out any, opts []grpc.CallOption) ending {
	err := u.invoke(t.ctx, out, t.seen.options(opts))
	e := u.ended(u.ctx, t, err)
	t.stop(context.Canceled)
	return e
}

// aside is where a second attempt puts what the first may be putting into what the caller gave.
type aside struct {
	out   any
	opts  []grpc.CallOption
	gives []func()
}

func newAside(out any, opts []grpc.CallOption) *aside {
	a := &aside{out: reflect.New(reflect.TypeOf(out).Elem()).Interface()}
	for _, o := range opts {
		switch theirs := o.(type) {
		case grpc.HeaderCallOption:
			md := new(metadata.MD)
			o, a.gives = grpc.Header(md), append(a.gives, func() { *theirs.HeaderAddr = *md })
		case grpc.TrailerCallOption:
			md := new(metadata.MD)
			o, a.gives = grpc.Trailer(md), append(a.gives, func() { *theirs.TrailerAddr = *md })
		case grpc.PeerCallOption:
			p := new(peer.Peer)
			o, a.gives = grpc.Peer(p), append(a.gives, func() { *theirs.PeerAddr = *p })
		}
		a.opts = append(a.opts, o)
	}
	return a
}

// give gives the caller what came. The message moves: nobody keeps the one it was in.
func (a *aside) give(out any) {
	reflect.ValueOf(out).Elem().Set(reflect.ValueOf(a.out).Elem())
	for _, give := range a.gives {
		give()
	}
}
