package proxy

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// front is the client's side of an HTTP exchange: where the request body comes from and the answer
// goes. The HTTP/1.1 and HTTP/2 engines each have one. readBody, requestTrailers and stopBody may run on
// another goroutine than the rest. Errors of a front mean that the client is gone.
type front interface {
	// pending is the part of the request body that is in memory, without taking it, and whether it is the whole body.
	pending() (p []byte, whole bool)
	// peek waits for the first n bytes of the request body, or all of it, until then at the most (zero: no such end). It takes nothing.
	peek(n int, until time.Time) (p []byte, whole bool, err error)
	// readBody returns the next bytes of the request body without framing, valid until the next call; io.EOF after the last.
	readBody() ([]byte, error)
	// requestTrailers are the trailer fields, once readBody returned io.EOF.
	requestTrailers() []wire.Field
	// stopBody makes a readBody under way, and every later one, return an error soon.
	stopBody()
	// bodyRead reports whether the whole request body was taken by readBody. It may be asked on any goroutine.
	bodyRead() bool
	// watchCancel makes the front call b.cancel, from another goroutine, when it learns that the client left. nil ends that.
	watchCancel(b back)

	// date is the time now as the value of a Date field.
	date() []byte
	// scratch is the memory for preparing fields; it lives as long as the exchange.
	scratch() *scratch
	// inform sends a 1xx answer at once.
	inform(r *wire.Response) error
	// begin starts the answer. fields are what is sent, edits done and hop-by-hop fields gone; the front
	// adds its own framing. length is that of the body: -1 unknown, noBody none and no framing either.
	// Nothing needs to be on the wire before write or end.
	begin(x *exchange.Exchange, status int, fields []wire.Field, length int64) error
	// retract undoes begin. false: some of the answer went out.
	retract() bool
	// endBy has calls fail from then on that wait for the client to take what was sent; zero: no such end. It is called before begin.
	endBy(t time.Time)
	// flush sends what waits, for answers whose body is not there yet.
	flush() error
	// write sends body bytes, together with a head that is still waiting. p may be reused when it returns. more: the next
	// call of write or end comes without waiting for anything, so that bytes may be held back until then.
	write(p []byte, more bool) error
	// end ends the answer, with trailers or none.
	end(trailers []wire.Field) error
	// abort cuts the answer off so that the client sees that it is incomplete.
	abort()
}

// back is one attempt at an endpoint: HTTP/1.1 connections and HTTP/2 streams each are one.
// Sending and receiving may run on two goroutines.
type back interface {
	// send sends the request head, with target, host and fields as prepared in s, and the bytes of the body at hand in one write. whole:
	// nothing follows. On an error it reports whether provably nothing reached the endpoint.
	send(x *exchange.Exchange, s *scratch, body []byte, whole bool) (unsent bool, err error)
	// sendBody sends further body bytes.
	sendBody(p []byte) error
	// endBody ends the body, with trailers or none.
	endBody(trailers []wire.Field) error

	// head waits for an answer head, 1xx ones too. r is valid until the next call of head or release. On an
	// error before the first byte it reports whether provably the endpoint never saw the request.
	head(x *exchange.Exchange, r *wire.Response) (unsent bool, err error)
	// body returns the next bytes of the answer's body without framing, valid until the next call; io.EOF after the last.
	// more: further bytes are at hand, so that the caller need not flush yet.
	body() (p []byte, more bool, err error)
	// ready reports whether body would return without waiting.
	ready() bool
	// length is that of the answer's body: -1 unknown, noBody when the answer cannot have one.
	length() int64
	// trailers are the answer's trailer fields, once body returned io.EOF.
	trailers() []wire.Field

	// cancel makes all calls under way return an error soon. Any goroutine may call it, also after release.
	cancel()
	// release gives the connection back for reuse, or closes it when reuse is false or it is not at rest.
	release(reuse bool)
}
